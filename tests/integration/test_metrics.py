"""What /metrics says: as documented, valid in both formats, exact, and bounded whatever is sent."""

import asyncio
import json
import random
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic
from starlette.types import Message, Receive, Scope, Send

from service.api.observe import ObserveRequests
from service.cli.metrics_page import metrics_page
from service.metrics import Metrics
from tests.chaos.sizes import size
from tests.integration.conftest import LiveServer, ServerFactory, documented_examples, until

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"
MOST_SERIES = 300
MOST_REQUESTS = size(10_000, 3_000)
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
STAGES = ("read", "tokenize", "queue", "pack", "infer", "post_process", "write")


def test_documented_series_are_those_of_the_code() -> None:
    assert DOCUMENTED.read_text() == metrics_page(), "write the page anew: make metrics-page"


def test_promtool_finds_nothing_to_say_of_the_page(start_server: ServerFactory) -> None:
    server = start_server()
    ask_every_route(server)
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    page = server.client.get("/metrics").text
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_both_formats_hold_the_same_series(start_server: ServerFactory) -> None:
    server = start_server()
    ask_every_route(server)
    plain = server.client.get("/metrics").text
    answer = server.client.get("/metrics", headers=OPEN_METRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    of_plain = {sample.name for family in classic(plain) for sample in family.samples}
    parsed = open_metrics(answer.text)  # type: ignore[no-untyped-call]
    of_open = {sample.name for family in parsed for sample in family.samples}
    assert of_open == of_plain


def test_every_stage_of_known_requests_is_counted_exactly(start_server: ServerFactory) -> None:
    server = start_server()
    for text in ("the food", "the train", "the leaves at nine", "the food"):
        server.client.post("/v1/sentiment", json={"input": text}).raise_for_status()
    series = "encserve_stage_duration_seconds_count"
    until(lambda: server.count(series, model="sentiment", stage="write") >= 4)
    counted = {stage: server.count(series, model="sentiment", stage=stage) for stage in STAGES}
    # The fourth text is in the cache: it neither waits nor runs.
    of_texts = {"queue": 3, "pack": 3, "infer": 3}
    assert counted == {stage: of_texts.get(stage, 4) for stage in STAGES}
    assert server.count("encserve_confidence_ratio_count", model="sentiment") == 4
    tokens = {"model": "sentiment", "kind": "text"}
    assert server.count("encserve_tokens_total", **tokens) == 4 + 4 + 6
    assert server.count("encserve_tokens_total", **tokens | {"kind": "padding"}) == 0


def test_padding_is_what_stands_beside_shorter_texts(start_server: ServerFactory) -> None:
    server = start_server()
    body = {"input": ["the food", "the leaves at nine", "the train"]}
    server.client.post("/v1/embeddings", json=body).raise_for_status()
    runs = server.count("encserve_batch_texts_count", model="embedding")
    padding = server.count("encserve_tokens_total", model="embedding", kind="padding")
    # All in one run: two texts of 4 tokens stand beside one of 6.
    assert (runs, padding) == (1, 4)


def test_faults_are_told_apart_by_whose_they_are(start_server: ServerFactory) -> None:
    server = start_server()
    for text in ("the food", "the train", ""):
        server.client.post("/v1/embeddings", json={"input": text})
    server.client.post("/v1/embeddings", json={"input": "x", "model": "nothing"})
    until(
        lambda: (
            server.count(
                "encserve_requests_total",
                outcome="model_not_found",
                endpoint="/v1/embeddings",
                model="",
            )
            == 1
        )
    )
    faults = {
        fault: server.count("encserve_slo_requests_total", model="embedding", fault=fault)
        for fault in ("none", "caller", "server")
    }
    assert faults == {"none": 2, "caller": 1, "server": 0}


def test_callers_cannot_make_series_without_end(start_server: ServerFactory) -> None:
    server = start_server(admin_key="key")
    ask_every_route(server)
    asyncio.run(try_everything(server, requests=MOST_REQUESTS))
    families = list(classic(server.client.get("/metrics").text))
    samples = [sample for family in families for sample in family.samples]
    # `encserve serve` switches the moments of creation off, which this server in a thread has.
    beside = ("_bucket", "_created")
    series = [sample for sample in samples if not sample.name.endswith(beside)]
    assert len(series) <= MOST_SERIES
    asked = [sample.value for sample in samples if sample.name == "encserve_requests_total"]
    assert sum(asked) >= MOST_REQUESTS


async def try_everything(server: LiveServer, requests: int) -> None:
    """Random paths, models, labels, methods and mistakes."""
    rng = random.Random(0)
    paths = sorted(server.client.get("/openapi.json").json()["paths"])
    texts = ["food", ["food"], "", [], [""], 7, ["food"] * 2100, "food " * 21_000]
    headers = [
        ("Content-Type", "text/plain"),
        ("X-Priority", "high"),
        ("X-Expected-Version", "7"),
        ("X-Request-Timeout-Ms", "x"),
        ("X-Request-Id", "x"),
    ]

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        path = rng.choice(paths) if rng.random() < 0.9 else f"/{number}"
        for part in ("model", "name"):
            path = path.replace(f"{{{part}}}", rng.choice(["embedding", "sentiment", str(number)]))
        body: dict[str, object] = {rng.choice(["input", "inputs"]): rng.choice(texts)}
        if rng.random() < 0.5:
            body |= {"model": rng.choice(["embedding", "sentiment", f"m{number}"])}
        if rng.random() < 0.2:
            body |= {"dimensions": rng.choice([8, 1000]), f"field{number}": 1}
        content = rng.choice([b"", b"{", b"[]", *[json.dumps(body).encode()] * 7])
        sent = {"Authorization": "Bearer key", "Content-Type": "application/json"}
        if rng.random() < 0.3:
            sent |= [rng.choice(headers)]
        method = rng.choice(["POST", "POST", "POST", "GET", "PUT"])
        await client.request(method, path, headers=sent, content=content)

    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        for first in range(0, requests, 50):
            await asyncio.gather(*(ask(client, first + offset) for offset in range(50)))


def ask_every_route(server: LiveServer) -> None:
    """The documented examples, and every GET."""
    for path, asked, _ in documented_examples(server):
        # Token ids of the default models' tokenizers are not the tiny ones'.
        assert server.client.post(path, json=asked).is_success or path == "/decode"
    for path, methods in server.client.get("/openapi.json").json()["paths"].items():
        if "get" in methods:
            server.client.get(path.replace("{model}", "sentiment"))


@pytest.mark.parametrize("trace_id", ["4bf92f3577b34da6a3ce929d0e0e4736", None])
def test_trace_is_the_example_of_a_duration(trace_id: str | None) -> None:
    metrics = Metrics(CollectorRegistry())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] |= {"model": "sentiment", "version": "1", "trace_id": trace_id}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing(message: Message) -> None:
        pass

    async def no_message() -> Message:
        return {"type": "http.request"}

    observed = ObserveRequests(app, metrics, lambda *noted: None)
    scope = {"type": "http", "method": "POST", "headers": [], "path": "/"}
    asyncio.run(observed(scope, no_message, nothing))
    samples = next(iter(metrics.request_duration.collect())).samples
    examples = [sample.exemplar.labels for sample in samples if sample.exemplar]
    assert examples == ([{"trace_id": trace_id}] if trace_id else [])
