"""Wrong requests to every route: an answer below 500 and, if an error, short JSON with a code."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.corpus import Case, cases
from tests.chaos.sizes import size
from tests.integration.conftest import LiveServer, live_server
from tests.integration.every_route import ADMIN_KEY, Asked, checked_error, sound_requests

MOST = size(1_000_000, 150)
FEWEST = size(300, 150)
# What answers when all is well, and is no error of ours.
BODILESS = ("HEAD",)


@pytest.fixture(scope="module")
def target(tiny_store: Path) -> Iterator[LiveServer]:
    with live_server(tiny_store, admin_key=ADMIN_KEY) as running:
        yield running


def test_wrong_requests_made_by_hand_are_no_fault_of_the_server(target: LiveServer) -> None:
    sound = sound_requests(target.client.get("/openapi.json").json())
    every = list(cases(sound))
    # So that a cut, too, has some of each route.
    chosen = every[:: max(1, len(every) // MOST)]
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    faults = [fault for case in chosen for fault in ask(connection, case)]
    connection.close()
    assert faults == []
    assert len(chosen) >= FEWEST
    for asked in sound[:3]:
        assert status_of(target, asked) == 200
    print(f"{len(chosen)} of {len(every)} wrong requests")


def ask(connection: http.client.HTTPConnection, case: Case) -> Iterator[str]:
    """What was wrong with the answer, if anything."""
    name, asked, more = case
    headers = {name: value for name, value in (asked.headers | more).items() if value}
    connection.request(asked.method, asked.path, asked.sent, headers)
    answer = connection.getresponse()
    body = answer.read()
    where = f"{asked.method} {asked.path[:60]}, {name}: {answer.status}"
    if answer.status >= 500:
        yield f"{where} {body[:200]!r}"
    elif answer.status >= 400 and asked.method not in BODILESS:
        try:
            checked_error(asked.route, answer.headers["content-type"] or "", body)
        except (AssertionError, ValueError, KeyError) as error:
            yield f"{where} is no error in our shape: {error!r} {body[:200]!r}"


def status_of(target: LiveServer, asked: Asked) -> int:
    return target.client.request(
        asked.method, asked.path, content=asked.sent, headers=asked.headers
    ).status_code
