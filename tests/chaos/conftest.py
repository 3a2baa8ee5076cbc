"""The servers of the integration tests, in a thread or in a process of their own."""

from tests.integration.conftest import process, server, start_server

__all__ = ["process", "server", "start_server"]
