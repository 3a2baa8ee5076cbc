"""Clients in a closed loop against a fresh server: no error, and metrics that agree exactly.

    python -m benchmarks.load [--clients 32] [--seconds 30] [--texts FILE.tsv]

Half of the requests ask for embeddings, half for sentiment, one to four texts each.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import STORE, machine, mixed_texts, percentile
from benchmarks.processes import listening

ROUTES = {"embedding": "/v1/embeddings", "sentiment": "/v1/sentiment"}


@dataclass
class Sent:
    """What the clients saw, by model."""

    requests: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def note(self, model: str, response: httpx2.Response, latency_s: float) -> None:
        if response.status_code != 200:
            self.failures[response.status_code] += 1
            return
        answer = response.json()
        self.requests[model] += 1
        self.texts[model] += len(answer["data"])
        self.tokens[model] += answer["usage"]["total_tokens"]
        self.truncated[model] += int(response.headers["x-truncated-texts"])
        self.labels.update(entry["label"] for entry in answer["data"] if "label" in entry)
        self.latencies_s.append(latency_s)


async def drive(url: str, texts: list[str], clients: int, seconds: float) -> tuple[Sent, float]:
    sent = Sent()
    started_s = time.perf_counter()

    async def client_loop(client: httpx2.AsyncClient, number: int) -> None:
        turn = number
        while time.perf_counter() - started_s < seconds:
            model = ("embedding", "sentiment")[turn % 2]
            first = turn * 4 % len(texts)
            body = {"input": texts[first : first + 1 + turn % 4]}
            before_s = time.perf_counter()
            response = await client.post(ROUTES[model], json=body)
            sent.note(model, response, time.perf_counter() - before_s)
            turn += clients

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
        await asyncio.gather(*(client_loop(client, number) for number in range(clients)))
    return sent, time.perf_counter() - started_s


def disagreements(page: str, sent: Sent) -> list[str]:
    """Every series that does not say exactly what the clients saw."""
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    expected: list[tuple[str, dict[str, str], int]] = []
    for model, route in ROUTES.items():
        request = {"endpoint": route, "model": model}
        named = {"model": model}
        expected += [
            ("encserve_requests_total", request | {"outcome": "ok"}, sent.requests[model]),
            ("encserve_request_duration_seconds_count", request, sent.requests[model]),
            ("encserve_batch_texts_sum", named, sent.texts[model]),
            ("encserve_batch_tokens_sum", named, sent.tokens[model]),
            ("encserve_texts_total", named | {"source": "computed"}, sent.texts[model]),
            ("encserve_truncated_texts_total", named, sent.truncated[model]),
            ("encserve_queue_texts", named, 0),
            ("encserve_queue_tokens", named, 0),
        ]
    for label, count in sent.labels.items():
        labels = {"model": "sentiment", "label": label}
        expected.append(("encserve_predictions_total", labels, count))
    found = [(samples.get((name, frozenset(labels.items()))), name, labels, count)
             for name, labels, count in expected]  # fmt: skip
    return [f"{name}{labels}: {value}, sent {count}"
            for value, name, labels, count in found if value != count]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    texts = mixed_texts(options.texts)
    # Every text is to be computed: no cache, and no two callers with the same text.
    os.environ["ENCSERVE_CACHE_BYTES"] = "0"
    texts = list(dict.fromkeys(texts))
    served = ["--model-store", str(options.store), "--log-level", "warning"]
    with listening(served) as (_, url):
        sent, took_s = asyncio.run(drive(url, texts, options.clients, options.seconds))
        wrong = disagreements(httpx2.get(f"{url}/metrics").text, sent)
    requests, count = sum(sent.requests.values()), sum(sent.texts.values())
    milliseconds = [1000 * latency_s for latency_s in sent.latencies_s]
    errors, tokens = sum(sent.failures.values()), sum(sent.tokens.values())
    p50, p95, p99 = (f"{percentile(milliseconds, share):.0f}" for share in (0.5, 0.95, 0.99))
    print(f"{machine()}\n")
    print("| clients | s | requests | errors | texts | texts/s | tokens/s | p50 ms | p95 | p99 |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| {options.clients} | {took_s:.0f} | {requests} | {errors} | {count} ", end="")
    print(f"| {count / took_s:.1f} | {tokens / took_s:.0f} | {p50} | {p95} | {p99} |")
    print(f"\nmetrics that disagree with what was sent: {len(wrong)}")
    if wrong or sent.failures:
        raise SystemExit("\n".join([*wrong, f"failures by status: {dict(sent.failures)}"]))


if __name__ == "__main__":
    main()
