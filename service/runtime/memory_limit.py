"""How much memory this process may use."""

import os
from pathlib import Path


def memory_limit_bytes(cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """The limit of the cgroup (v2, then v1) if that is less than what the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        _number(cgroup_root / "memory.max"),
        _number(cgroup_root / "memory" / "memory.limit_in_bytes"),
    ]
    return min([machine, *(limit for limit in limits if limit)])


def _number(path: Path) -> int:
    """0 where there is no file, or no limit in it."""
    try:
        written = path.read_text().strip()
    except OSError:
        return 0
    return int(written) if written.isdecimal() else 0
