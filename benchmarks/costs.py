"""What a text costs: of the processor, by where it is spent; measured, for sheets and simulations.

    python -m benchmarks.costs [--model embedding] [--seconds 2] [--out sheet.json]

A model run is measured in process, with nothing beside it, and how much dearer it is in a server
that is full by the kernel's account of the server's threads; the event loop (HTTP, JSON, tokens,
answers) by that of its main thread. What is dearer where cores are not always busy is told by
`benchmarks.part_load`.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median

import numpy as np
import numpy.typing as npt
import orjson
from scipy.optimize import nnls

from benchmarks.balancers import balancer
from benchmarks.common import STORE, load_encoder, machine, percentile
from benchmarks.figures import print_table
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.lean_client import ask_once
from benchmarks.part_load import busy_and_not, with_part_loads
from benchmarks.processes import Server, encserve
from benchmarks.sheet import Costs, LoopCost, RunCost, Shape, Sheet, per_text
from benchmarks.simulated_drive import drive as simulate
from benchmarks.traffic import Request, Traffic, distinct_texts, short_texts
from service.runtime.cpus import available_cpus
from service.runtime.session import open_session
from service.store.repository import ModelRepository

BUDGETS = (16, 32, 64, 128)
# Batches of each budget.
EACH = 12
LONG_TOKENS = 256
ALONE_LENGTHS = (8, 16, 32, 64, 128, 256)
SHORT_COUNTS = (2, 4, 8, 16)
Batch = list[Sequence[int]]
Run = Callable[[Batch], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--out", type=Path, help="file for all of it, as JSON")
    options = parser.parse_args()
    loads = loads_of(options.store, options.model, options.texts)
    with load_generator() as drive, encserve(options.store, options.model) as server:
        costs = measure(options.store, options.model, loads, drive, server, options.seconds)
        shapes = {name: shape_of(server, requests) for name, requests in loads.items()}
        with balancer("haproxy", [server]) as front:
            before_s = front.usage.main_thread_s()
            (sent,) = drive(front.url, [Stream(loads["short"], clients=8)], options.seconds)
            balancer_s = (front.usage.main_thread_s() - before_s) / len(sent.latencies_s)
        width = Traffic(options.store, options.model).manifest.width
        json_s = json_cost(loads["mixed"], width)
        sheet = Sheet(costs, balancer_s, json_s, server.usage.peak_mib(), shapes)
    print(f"{machine()}\n")
    report(sheet)
    if options.out:
        options.out.write_bytes(orjson.dumps(asdict(sheet), option=orjson.OPT_INDENT_2))


def shape_of(server: Server, requests: Sequence[Request]) -> Shape:
    """Means over some of the requests, one of them answered."""
    texts = sum(len(one.texts) for one in requests)
    answer = asyncio.run(ask_once(server.url, requests[0].payload))
    return Shape(
        texts=texts / len(requests),
        tokens=sum(one.tokens for one in requests) / texts,
        bytes_in=sum(len(one.payload) for one in requests) / texts,
        bytes_out=len(answer.head + answer.body) / len(requests[0].texts),
    )


def json_cost(requests: Sequence[Request], width: int) -> float:
    """Seconds of a thread to read the body of one text and to write its vector."""
    bodies = [one.payload.partition(b"\r\n\r\n")[2] for one in requests]
    vector = np.random.default_rng(0).standard_normal(width).astype(np.float32)
    since_s = time.thread_time()
    for body in bodies:
        orjson.loads(body)
        orjson.dumps({"data": [{"embedding": vector}]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (time.thread_time() - since_s) / len(bodies)


def loads_of(store: Path, model: str, file: Path | None) -> dict[str, list[Request]]:
    """The kinds of traffic of the sheet, and mixed texts in large requests."""
    traffic = Traffic(store, model)
    texts = distinct_texts(file)
    return {
        "short": traffic.requests(short_texts(texts)),
        "mixed": traffic.requests(texts),
        "long": traffic.requests(traffic.texts_of(LONG_TOKENS, texts, 256)),
        "mixed, 32 a request": traffic.requests(texts, 32),
    }


def measure(
    store: Path,
    model: str,
    loads: dict[str, list[Request]],
    drive: Drive,
    server: Server,
    seconds: float,
) -> Costs:
    """All costs; the server is to have `model` and no cache."""
    traffic = Traffic(store, model)
    encoder, tokenizer, _ = load_encoder(store, model)
    mixed = [one.texts[0] for one in loads["mixed"]][:1024]
    ids: Batch = [text.token_ids for text in tokenizer.encode(mixed)]
    alone = [ids_of_length(ids, length) for length in ALONE_LENGTHS]
    batches: list[Batch] = [
        batch for budget in BUDGETS for batch in islice(_within(ids, budget), EACH)
    ]
    batches += [[one] for one in alone]
    # Many short texts in one run tell what a text costs from what a run does.
    batches += [[alone[0]] * count for count in SHORT_COUNTS]
    narrow = _fit_runs(*one_by_one(encoder, batches, seconds))
    published = ModelRepository(store).resolve(model)
    session = open_session(
        published.file(traffic.manifest.file_of(traffic.manifest.default_variant)),
        threads=available_cpus(),
    )
    wide_encoder = type(encoder)(session, traffic.manifest.output, traffic.manifest.width)
    wide = _fit_runs(*one_by_one(wide_encoder, batches, seconds))
    loop, client_request_s = loop_cost(loads, drive, server, seconds)
    costs = Costs(available_cpus(), narrow, wide, loop, client_request_s)
    crowded = in_server(traffic, loads["mixed"], costs, drive, server, seconds)
    costs = replace(costs, crowded=crowded)
    lengths = [traffic.lengths(one.texts) for one in loads["mixed"]]
    seen = busy_and_not(loads["mixed"], drive, server, seconds, costs.cores)
    return with_part_loads(costs, mean(map(costs.loop.of, lengths)), seen)


def in_server(
    traffic: Traffic,
    requests: Sequence[Request],
    costs: Costs,
    drive: Drive,
    server: Server,
    seconds: float,
) -> float:
    """How many times dearer runs are in a server that is full than where nothing else runs.

    Told by the processor time of all of the server's threads but the event loop.
    """
    before_s = server.usage.cpu_s() - server.usage.main_thread_s()
    (sent,) = drive(server.url, [Stream(requests, clients=8)], 2 * seconds)
    spent_s = server.usage.cpu_s() - server.usage.main_thread_s() - before_s
    lengths = [traffic.lengths(one.texts) for one in requests]
    alone = simulate(costs, lengths, 2 * seconds, clients=8)
    return (spent_s / len(sent.latencies_s)) / (alone.runs_s / len(alone.latencies_s))


def ids_of_length(ids: Batch, length: int) -> list[int]:
    """Real ids, cut or laid end to end; whether they make sense costs nothing."""
    endless = cycle(token for text in ids for token in text)
    return [next(endless) for _ in range(length)]


def one_by_one(
    run: Run, batches: Sequence[Batch], seconds: float
) -> tuple[list[Batch], list[float]]:
    """One run at a time: each batch, and the lower quartile of its times by the clock.

    Neighbours and interrupts only ever add.
    """
    rounds: list[list[float]] = [[] for _ in batches]
    stop_s = time.perf_counter() + seconds
    clean = min(batches, key=lambda batch: sum(map(len, batch)))
    while time.perf_counter() < stop_s:
        for batch, times in zip(batches, rounds, strict=True):
            # What the one before left in the caches is no part of this one's costs.
            run(clean)
            since_s = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - since_s)
    return list(batches), [percentile(times, 0.25) for times in rounds]


def loop_cost(
    loads: dict[str, list[Request]], drive: Drive, server: Server, seconds: float
) -> tuple[LoopCost, float]:
    """Of the event loop, from loads of different shape; and of the load generator, a request."""
    rows, spent, client = [], [], []
    for requests in loads.values():
        before_s = server.usage.main_thread_s()
        (sent,) = drive(server.url, [Stream(requests, clients=8)], seconds)
        count = len(sent.latencies_s)
        rows.append([1.0, sent.texts / count, sent.tokens / count])
        spent.append((server.usage.main_thread_s() - before_s) / count)
        if len(requests[0].texts) == 1:
            client.append(sent.client_cpu_s / count)
    return LoopCost(*_non_negative(np.array(rows), np.array(spent))), median(client)


def _within(ids: Batch, budget: int) -> Iterator[Batch]:
    """Batches as the server makes them: in order, of so many tokens or one longer text."""
    batch: Batch = []
    for text in ids:
        if batch and sum(map(len, batch)) + len(text) > budget:
            yield batch
            batch = []
        batch.append(text)


def _fit_runs(batches: list[Batch], took_s: list[float]) -> RunCost:
    rows = [
        [1, len(batch), sum(map(len, batch)), sum(len(text) ** 2 for text in batch)]
        for batch in batches
    ]
    return RunCost(*_non_negative(np.array(rows, float), np.array(took_s)))


def _non_negative(rows: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> list[float]:
    """Least squares of the relative errors: short runs count as much as long ones."""
    found, _ = nnls(rows / values[:, None], np.ones_like(values))
    return [float(one) for one in found]


def report(sheet: Sheet) -> None:
    rows = []
    for name, shape in sheet.traffic.items():
        run_s, loop_s = per_text(sheet.costs, shape)
        together_s = run_s + loop_s
        rows.append(
            [
                *(name, f"{shape.tokens:.0f}", f"{1e6 * run_s:.0f}", f"{1e6 * loop_s:.0f}"),
                *(f"{1e6 * together_s / 3600:.2f}", f"{loop_s / together_s:.0%}"),
                *(f"{shape.bytes_in:.0f}", f"{shape.bytes_out:.0f}"),
            ]
        )
    head = ["texts", "tokens a text", "runs, core s a million", "event loop, core s a million"]
    head += ["core hours a million", "of it event loop", "bytes in a text", "bytes out a text"]
    print_table(head, rows)
    costs = sheet.costs
    micro = [
        [name, *(f"{1e6 * value:.3f}" for value in asdict(cost).values())]
        for name, cost in (("a run on one core", costs.narrow), ("a run on all", costs.wide))
    ]
    print_table(["µs", "fixed", "a text", "a token", "a pair of tokens"], micro)
    loop = [f"{1e6 * value:.2f}" for value in asdict(costs.loop).values()]
    print_table(["µs", "a request", "a text", "a token"], [["event loop", *loop]])
    for what, cost_s in (
        ("load generator, a request", costs.client_request_s),
        ("its timers, a request", costs.client_timer_s),
        ("HAProxy, a request", sheet.balancer_s),
        ("JSON of a text and its vector", sheet.json_s),
    ):
        print(f"{what}: {1e6 * cost_s:.0f} µs")
    print_table(
        ["cores busy", *(f"{one.busy:.0%}" for one in costs.part_loads)],
        [
            ["event loop, times", *(f"{one.times:.2f}" for one in costs.part_loads)],
            ["woken after µs", *(f"{1e6 * one.woken_s:.0f}" for one in costs.part_loads)],
            ["workers", *(f"{1e6 * one.worker_woken_s:.0f}" for one in costs.part_loads)],
        ],
    )
    print(f"memory of the server: {sheet.memory_mib:.0f} MiB")


if __name__ == "__main__":
    main()
