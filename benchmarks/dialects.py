"""What each dialect adds to the engine's time for one short text.

    python -m benchmarks.dialects [--store model_store] [--calls 400] [--rounds 5]

The text is in the cache, so that both sides are steady: the difference is the reading of the
request, its validation, the route and the writing of the answer. The application is called in
process; sockets and uvicorn's parser come on top, and are the same for all.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from benchmarks.common import machine
from service.api.app import create_app
from service.live import load_models
from service.metrics import Metrics
from service.settings import load_settings

TEXT = "The staff could not have been kinder."
MOST_ADDED_MS = 0.15

Call = Callable[[], Awaitable[object]]

# Route, its body, and whether it asks the embedding model.
ROUTES: list[tuple[str, dict[str, Any], bool]] = [
    ("/v1/embeddings", {"input": TEXT, "encoding_format": "base64"}, True),
    ("/v1/sentiment", {"input": TEXT}, False),
    ("/v1/classify", {"input": TEXT}, False),
    ("/embed", {"inputs": TEXT}, True),
    ("/predict", {"inputs": TEXT}, False),
    ("/", {"inputs": TEXT}, True),
    ("/", {"inputs": TEXT, "parameters": {}}, False),
    ("/v2/embed", {"texts": [TEXT]}, True),
    (
        "/v2/models/embedding/infer",
        {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}],
            "parameters": {"binary_data_output": True},
        },
        True,
    ),
    (
        "/v2/models/sentiment/infer",
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]},
        False,
    ),
]


def request(app: FastAPI, path: str, body: dict[str, Any]) -> Call:
    """One call of the application as uvicorn makes it."""
    content = orjson.dumps(body)
    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"user-agent", b"benchmark"),
    ]

    async def call() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        parts = iter([{"type": "http.request", "body": content, "more_body": False}])
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            for part in parts:
                return part
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200, message

        await app(scope, receive, send)  # type: ignore[arg-type]  # dicts are what ASGI has

    return call


async def p50_ms(call: Call, calls: int) -> float:
    taken = []
    for _ in range(calls):
        started_s = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started_s)
    return median(taken) * 1000


async def measure(app: FastAPI, calls: int, rounds: int) -> list[list[float]]:
    """p50 in ms by round: the embedding engine, the classifier, then the routes."""
    engines = app.state.engines
    embed, judge = engines.get("embedding"), engines.get("sentiment")
    contenders: list[Call] = [lambda: embed.embed([TEXT]), lambda: judge.classify([TEXT])]
    contenders += [request(app, path, body) for path, body, _ in ROUTES]
    async with app.router.lifespan_context(app):
        for contender in contenders:
            await p50_ms(contender, calls // 4)
        return [[await p50_ms(one, calls) for one in contenders] for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = load_settings(model_store=options.store)
    metrics = Metrics(CollectorRegistry())
    app = create_app(settings, load_models(settings, metrics), metrics)
    found = asyncio.run(measure(app, options.calls, options.rounds))
    embedding_ms, sentiment_ms = (median(one[engine] for one in found) for engine in (0, 1))
    print(f"{machine()}\n\nengine alone, text cached: {embedding_ms:.3f} ms embedding, ", end="")
    print(f"{sentiment_ms:.3f} ms sentiment\n\n| route | added at p50, ms |\n|---|---:|")
    for place, (path, body, embeds) in enumerate(ROUTES, start=2):
        added = median(one[place] - one[0 if embeds else 1] for one in found)
        kind = " (labels)" if "parameters" in body and path == "/" else ""
        print(f"| {path}{kind} | {added:.3f}{'' if added <= MOST_ADDED_MS else ' (over)'} |")


if __name__ == "__main__":
    main()
