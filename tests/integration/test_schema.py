"""The documented interface: the committed page is what is served, and no input breaks it."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.chaos.sizes import size
from tests.integration.conftest import LiveServer

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"
# `make chaos` and `make fuzz` ask for more.
EXAMPLES_A_ROUTE = int(os.environ.get("FUZZ_EXAMPLES", size(420, 25)))
FEWEST = size(20_000, 300)
CONFORMANCE = [
    *("not_a_server_error", "status_code_conformance"),
    *("content_type_conformance", "response_schema_conformance"),
]


Operation = tuple[str, str, schemathesis.GenerationMode]


@pytest.fixture(scope="module")
def generated() -> Counter[Operation]:
    """How many requests of each kind."""
    return Counter()


def operations() -> Iterator[Operation]:
    """Every route with requests that fit its schema; and, of those that need a body, others."""
    for path, methods in json.loads(OPENAPI.read_text())["paths"].items():
        for method in methods:
            yield path, method, schemathesis.GenerationMode.POSITIVE
            if methods[method].get("requestBody", {}).get("required"):
                yield path, method, schemathesis.GenerationMode.NEGATIVE


def test_committed_page_is_what_is_served(server: LiveServer) -> None:
    served = server.client.get("/openapi.json").json()
    assert json.loads(OPENAPI.read_text()) == served, "run `make openapi`"


@schemathesis.serializer("application/x-ndjson")
def as_lines(context: object, value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize(("path", "method", "mode"), list(operations()))
def test_no_generated_request_is_the_servers_fault(
    server: LiveServer,
    generated: Counter[Operation],
    path: str,
    method: str,
    mode: schemathesis.GenerationMode,
) -> None:
    generated[path, method, mode] += 0
    load_all_checks()
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operation = schema[path][method]
    checks: list[Any] = [CHECKS.get_one(name) for name in CONFORMANCE]

    @settings(
        max_examples=EXAMPLES_A_ROUTE,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        # A deadline of a millisecond is rightly answered with 504.
        case.headers.pop("X-Request-Timeout-Ms", None)
        generated[path, method, mode] += 1
        case.call_and_validate(checks=checks)

    ask()


def test_enough_requests_were_generated(generated: Counter[Operation]) -> None:
    if generated.keys() == set(operations()):
        assert all(generated.values())
        assert generated.total() >= FEWEST
        print(f"{generated.total()} generated requests to {len(generated)} kinds of route")
