"""The servers of the integration tests, in a thread or in a process of their own."""

from tests.chaos.sizes import FULL
from tests.integration.conftest import process, server, start_server

__all__ = ["process", "server", "start_server"]

# What takes minutes, root or packages of its own, and of which there is no cut: `make chaos`,
# `make nodes-test` and `make bulk-ray-test` run them.
WITHOUT_CUT = ["test_replicas.py", "test_two_nodes.py", "test_bulk_ray.py"]
collect_ignore = [] if FULL else WITHOUT_CUT
