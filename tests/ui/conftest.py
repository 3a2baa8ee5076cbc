"""The page in a real Chromium, asked of a real server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.integration.conftest import LiveServer, live_server

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server(tiny_store: Path) -> Iterator[LiveServer]:
    with live_server(tiny_store) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, server: LiveServer) -> Iterator[OpenPage]:
    """Opens the page of a server; whatever it complains of, or asks of others, fails the test."""
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(running: LiveServer = server, *, fine: bool = True, **context: object) -> Page:
        settings = {"locale": "en-GB", **context}
        contexts.append(browser.new_context(**settings))  # type: ignore[arg-type]
        page = contexts[-1].new_page()
        if fine:
            page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(f"{running.url}/") else faults.append(request.url)
            ),
        )
        page.goto(running.url)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def bound_of(server: LiveServer, share: float) -> float:
    """Seconds, the upper end of the bucket in which that quantile of the requests lies."""
    counts = {
        float(sample.labels["le"]): sample.value
        for metric in server.registry.collect()
        for sample in metric.samples
        if sample.name == "encserve_request_duration_seconds_bucket"
    }
    assert counts[float("inf")] == 4
    return min(bound for bound, count in counts.items() if count >= share * 4)
