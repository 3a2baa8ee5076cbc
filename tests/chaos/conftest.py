"""The servers of the integration tests, in a thread or in a process of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.replicas import Replica
from tests.chaos.sizes import FULL
from tests.integration.conftest import process, server, start_server

__all__ = ["process", "server", "start_server"]

# What takes minutes, root or packages of its own, and of which there is no cut: `make chaos`,
# `make nodes-test` and `make bulk-ray-test` run them.
WITHOUT_CUT = [
    "test_replicas.py",
    "test_killed_replicas.py",
    "test_two_nodes.py",
    "test_bulk_ray.py",
]
collect_ignore = [] if FULL else WITHOUT_CUT

# Longer than both balancers need to notice: HAProxy 1 s.
DRAIN_S = "3"


@pytest.fixture
def replicas(tiny_store: Path) -> Iterator[list[Replica]]:
    variables = {"ENCSERVE_DRAIN_S": DRAIN_S, "ENCSERVE_CACHE_BYTES": "0"}
    started = [Replica(tiny_store, **variables) for _ in range(2)]
    try:
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.close()
