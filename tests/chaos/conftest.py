"""The servers of the integration tests, in a thread or in a process of their own."""

from tests.chaos.sizes import FULL
from tests.integration.conftest import process, server, start_server

__all__ = ["process", "server", "start_server"]

# What takes minutes and Debian packages, and of which there is no cut.
collect_ignore = [] if FULL else ["test_replicas.py"]
