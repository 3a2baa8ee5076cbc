"""The dashboards, asked query by query of a real Prometheus that has scraped a real server."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.boards import BOARDS
from monitoring.counted import counts
from monitoring.grafana import FOLDER, text_of
from monitoring.panels import Board
from monitoring.prometheus import Prometheus
from monitoring.scene import ADMIN_KEY, CALLERS, Scene, play, watched_server
from monitoring.seen import look
from monitoring.traffic import Callers, Sent
from tests.conftest import SENTENCES

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"
FILES = sorted(FOLDER.glob("*.json"))
SCRAPE_S = 0.5
SCRAPES = 4
# Each has more than half of what the queue takes.
CROWD = (9, 100)
SETTINGS = {
    "ENCSERVE_PROBE": "false",
    "ENCSERVE_MAX_QUEUE_TOKENS": "4000",
    "ENCSERVE_DRAIN_S": "0",
}


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_dashboard_files_are_those_of_the_code(board: Board) -> None:
    written = (FOLDER / f"{board.uid}.json").read_text(encoding="utf-8")
    assert written == text_of(board), "write them anew: make dashboards"


def test_no_other_dashboard_lies_beside_them() -> None:
    assert [file.stem for file in FILES] == sorted(board.uid for board in BOARDS)


def test_panels_lie_side_by_side_and_never_on_each_other() -> None:
    for file in FILES:
        cells: list[tuple[int, int]] = []
        for panel in json.loads(file.read_text())["panels"]:
            place = panel["gridPos"]
            across = range(place["x"], place["x"] + place["w"])
            down = range(place["y"], place["y"] + place["h"])
            assert across.stop <= 24
            cells += [(x, y) for x in across for y in down]
        assert len(cells) == len(set(cells)), file.name


def test_runbooks_name_panels_that_exist() -> None:
    """Runbooks say: Overview, "Title of the panel"."""
    titles = {board.title.partition(": ")[2]: board for board in BOARDS}
    names = "|".join(titles)
    named = re.findall(rf'({names}), "([^"]+)"(?:\s+and\s+"([^"]+)")?', RUNBOOKS.read_text())
    assert len(named) >= 8
    for board, *panels in named:
        known = {panel.title for panel in titles[board].panels}
        assert {panel for panel in panels if panel} <= known


@pytest.fixture(scope="module")
def watched(tiny_store: Path) -> Iterator[tuple[Scene, Sent]]:
    with watched_server(tiny_store, SETTINGS, scrape_s=SCRAPE_S, evaluate_s=SCRAPE_S) as scene:
        yield scene, asyncio.run(traffic(scene))


async def traffic(scene: Scene) -> Sent:
    callers = Callers(scene.url, SENTENCES, CALLERS, ADMIN_KEY)
    await play(scene, callers, waves(scene), CROWD)
    await callers.close()
    scene.wait_until_all_is_scraped()
    return callers.sent


def waves(scene: Scene) -> Iterator[tuple[int, float]]:
    """Clients and seconds, until enough was scraped."""
    enough = scene.scrapes + SCRAPES
    while scene.scrapes < enough:
        yield (8, SCRAPE_S)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_query_of_every_panel_has_data(watched: tuple[Scene, Sent], file: Path) -> None:
    scene, _ = watched
    window = scene.window()
    # On a busy machine scrapes are late: the rates are over all of them.
    window = replace(window, rate_s=window.end_s - window.start_s)
    seen = list(look(scene.prometheus, file, window))
    assert len(seen) > 10
    without = [(one.panel, one.query, one.without_data) for one in seen if one.empty]
    assert without == []


def test_prometheus_counts_exactly_what_callers_have_seen(watched: tuple[Scene, Sent]) -> None:
    scene, sent = watched
    found = list(
        counts(scene.prometheus, sent, scene.versions.shadow, scene.wait_until_all_is_scraped())
    )
    # Every kind of answer was among them.
    outcomes = {outcome for _, outcome in sent.requests}
    assert outcomes >= {
        "ok",
        "blank_text",
        "model_not_found",
        "overloaded",
        "model_corrupt",
        "rate_limit_exceeded",
    }
    assert len(sent.answered) == 4
    assert [str(count) for count in found if count.found != count.sent] == []


def test_alert_fires_when_a_version_cannot_be_loaded(watched: tuple[Scene, Sent]) -> None:
    prometheus = watched[0].prometheus
    prometheus.wait_for(lambda: fires(prometheus, "EncserveModelLoadFailed"), 10, "it fires")
    assert not fires(prometheus, "EncserveWorkerStuck")


def fires(prometheus: Prometheus, name: str) -> bool:
    return any(alert.name == name and alert.state == "firing" for alert in prometheus.alerts())
