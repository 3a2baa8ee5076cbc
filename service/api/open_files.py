"""Room for connections: each is an open file, of which a process may have only so many."""

import logging
import resource

logger = logging.getLogger(__name__)

# Models, libraries, logs, and what is fetched from sources.
OTHER_FILES = 128


def allow_files(max_connections: int) -> None:
    """Raise this process's own limit to what the connections need, and say if it cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + OTHER_FILES
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning(
            "%d connections need %d open files, the system allows %d: raise its limit "
            "(ulimit -n), or lower ENCSERVE_MAX_CONNECTIONS",
            *(max_connections, needed, allowed),
        )
