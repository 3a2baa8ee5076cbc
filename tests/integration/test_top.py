"""`encserve top` against a live server."""

import os
import socket
import subprocess
import threading
import urllib.error

import pytest
import typer

from service.cli import top
from service.settings import load_settings
from tests.integration.conftest import ENCSERVE, LiveServer, ServerFactory


def test_one_frame_shows_what_was_answered_meanwhile(server: LiveServer) -> None:
    done = threading.Event()

    def ask() -> None:
        number = 0
        while not done.is_set():
            server.client.post("/v1/embeddings", json={"input": f"the train at {number}"})
            number += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        shown = subprocess.run(
            [*ENCSERVE, "top", server.url, "--once", "--interval", "1"],
            env=os.environ | {"COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    finally:
        done.set()
        asking.join()
    assert server.url in shown
    rows = {line.split()[1]: line.split("│") for line in shown.splitlines() if "@1 fp32" in line}
    assert rows.keys() == {"embedding@1", "sentiment@1"}
    _, texts, tokens, p50, p99, *_ = rows["embedding@1"][1:]
    assert float(texts) > 0
    assert float(tokens) > float(texts)
    assert 0 < float(p50) <= float(p99)
    # Nobody asked the other model: its latency is not known.
    assert rows["sentiment@1"][4].strip() == "-"


def test_no_server_is_one_clear_line() -> None:
    with socket.socket() as silent:
        # Bound, but nobody listens.
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        asked = subprocess.run(
            [*ENCSERVE, "top", url, "--once"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"no metrics at {url}/metrics: ")
    assert asked.stderr.count("\n") == 1


def test_address_that_is_no_url_and_page_of_another_server_are_refused(server: LiveServer) -> None:
    with pytest.raises(typer.BadParameter):
        top.top("127.0.0.1:8080")
    with pytest.raises(ValueError, match="live") as refused:
        top.scrape(f"{server.url}/livez")
    assert "live" not in top.told(refused.value)


def test_metrics_behind_a_key_are_read_with_it(start_server: ServerFactory) -> None:
    url = f"{start_server(metrics_key='hush').url}/metrics"
    key = top.metrics_key(load_settings(metrics_key="hush"))
    assert top.scrape(url, key).total("encserve_workers") > 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        top.scrape(url)
    assert top.told(refused.value) == "status 401: set ENCSERVE_METRICS_KEY to the server's key"
    refused.value.close()
