"""The ceiling: the same ONNX file in process, tokens prepared, all cores; and the server's share.

    python -m benchmarks.limit [--model embedding] [--texts FILE.tsv] [--rounds 3]

Each round runs every shape in process for some seconds, then drives the server with the same texts
one at a time from 32 clients, who take their part of the same cores. Medians of the rounds.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.common import STORE, machine, mixed_texts, running_server
from service.runtime.cpus import available_cpus
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import ModelRepository, verify

BUDGETS = (64, 128, 256, 512)
ROUTES = {"embedding": "/v1/embeddings", "classification": "/v1/classify"}
CLIENTS = 32


def batches(texts: Sequence[list[int]], budget: int) -> Iterator[list[list[int]]]:
    """First come, first served, in batches of at most `budget` tokens, again and again."""
    batch: list[list[int]] = []
    for text in cycle(texts):
        if batch and sum(map(len, batch)) + len(text) > budget:
            yield batch
            batch = []
        batch.append(text)


def in_process(encoder: PackedEncoder, texts: Sequence[list[int]], budget: int, s: float) -> float:
    """Tokens a second with a run on each core side by side."""
    workers = available_cpus()
    stop_s = time.perf_counter() + s

    def work(number: int) -> int:
        tokens = 0
        for batch in batches(texts[number::workers], budget):
            encoder(batch)
            tokens += sum(map(len, batch))
            if time.perf_counter() > stop_s:
                break
        return tokens

    started_s = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        tokens = sum(threads.map(work, range(workers)))
    return tokens / (time.perf_counter() - started_s)


async def over_http(url: str, path: str, texts: Sequence[str], model: str, s: float) -> float:
    """Tokens a second from `CLIENTS` clients with a text at a time."""
    stop_s = time.perf_counter() + s
    tokens = 0

    async def client_loop(client: httpx2.AsyncClient, number: int) -> None:
        nonlocal tokens
        while time.perf_counter() < stop_s:
            text = texts[number % len(texts)]
            response = await client.post(path, json={"input": text, "model": model})
            tokens += response.raise_for_status().json()["usage"]["total_tokens"]
            number += CLIENTS

    started_s = time.perf_counter()
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(client_loop(client, number) for number in range(CLIENTS)))
    return tokens / (time.perf_counter() - started_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    model = ModelRepository(options.store).resolve(options.model)
    verify(model)
    manifest = model.manifest
    texts = list(dict.fromkeys(mixed_texts(options.texts)))
    tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens)
    tokens = [text.token_ids for text in tokenizer.encode(texts)]
    encoder = PackedEncoder(
        open_session(model.file(manifest.default_file)), manifest.output, manifest.width
    )
    os.environ["ENCSERVE_CACHE_BYTES"] = "0"
    path = ROUTES[manifest.task]
    found: dict[str, list[float]] = {}
    with running_server(options.store, "--models", options.model) as url:
        for _ in range(options.rounds):
            for budget in BUDGETS:
                rate = in_process(encoder, tokens, budget, options.seconds)
                found.setdefault(f"in process, {budget} tokens a run", []).append(rate)
            rate = asyncio.run(over_http(url, path, texts, options.model, options.seconds))
            found.setdefault(f"server, {CLIENTS} clients beside it", []).append(rate)
    report(found, sum(map(len, tokens)) / len(tokens))


def report(found: dict[str, list[float]], mean_tokens: float) -> None:
    ceiling = max(median(rates) for name, rates in found.items() if name.startswith("in process"))
    print(f"{machine()}; {mean_tokens:.0f} tokens a text\n")
    print("| | tokens/s | texts/s | of the ceiling |\n|---|---:|---:|---:|")
    for name, rates in found.items():
        rate = median(rates)
        print(f"| {name} | {rate:.0f} | {rate / mean_tokens:.1f} | {rate / ceiling:.2f} |")


if __name__ == "__main__":
    main()
