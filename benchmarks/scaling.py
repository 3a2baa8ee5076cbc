"""How time and memory grow with workers, with the length of a text and with texts a request.

    python -m benchmarks.scaling [--texts FILE.tsv] [--seconds 3] [--rounds 3] [--variant fp32]

Workers: 32 clients, one mixed text at a time. Length: one client, one text of so many tokens at a
time. Batch: one client, requests of so many texts of 32 tokens. Each round of lengths and batches
starts a fresh server and goes upwards, so that memory shows what the step added. Medians of the
rounds.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from benchmarks.answers import vectors_of
from benchmarks.common import STORE, machine
from benchmarks.figures import COLUMNS, Figures, Rig, cells, medians, print_table, refuse_errors
from benchmarks.generator import Drive, Stream, load_generator
from benchmarks.processes import Server, encserve
from benchmarks.traffic import Request, Traffic, distinct_texts
from service.runtime.cpus import available_cpus

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCH_TEXT_TOKENS = 32
CLIENTS = 32
Found = dict[int, list[Figures]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--variant", default="", help="empty: the server's own choice")
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    traffic = Traffic(options.store, options.model)
    texts = distinct_texts(options.texts)
    mixed = traffic.requests(texts)
    lengths = {tokens: by_length(traffic, texts, tokens) for tokens in LENGTHS}
    same = traffic.texts_of(BATCH_TEXT_TOKENS, texts, 2 * BATCHES[-1])
    batches = {size: traffic.requests(same, size) for size in BATCHES}
    with load_generator() as drive:
        by_workers = side_by_side(drive, mixed, options)
        by_tokens = upwards(drive, lengths, options)
        by_texts = upwards(drive, batches, options)
    print(f"{machine()}; {options.rounds} rounds of {options.seconds:g} s")
    print(f"The model reads {traffic.manifest.max_tokens} tokens of a text\n")
    report("workers", by_workers)
    report("tokens a text", by_tokens)
    report("texts a request", by_texts)
    refuse_errors([*by_workers.values(), *by_tokens.values(), *by_texts.values()])


def by_length(traffic: Traffic, texts: Sequence[str], tokens: int) -> list[Request]:
    return traffic.requests(traffic.texts_of(tokens, texts, 64))


def worker_counts(cpus: int) -> list[int]:
    """1, 2, 4 and so on, and all cores."""
    return sorted({min(2**power, cpus) for power in range(cpus.bit_length() + 1)})


def side_by_side(drive: Drive, mixed: Sequence[Request], options: argparse.Namespace) -> Found:
    """A server for each number of workers; all stay up, and the rounds go through them."""
    found: Found = defaultdict(list)
    with ExitStack() as stack:
        rigs: dict[int, Rig] = {}
        for workers in worker_counts(available_cpus()):
            server = stack.enter_context(started(options, f"--workers={workers}"))
            rigs[workers] = Rig(partial(drive, server.url), server.usage, options.seconds)
        for turn in range(options.rounds):
            for workers, rig in rigs.items():
                first = turn * len(mixed) // options.rounds
                found[workers] += rig.measure(Stream(mixed, CLIENTS, first=first))
    return found


def upwards(
    drive: Drive, steps: Mapping[int, Sequence[Request]], options: argparse.Namespace
) -> Found:
    """One client through all steps, on a fresh server in each round."""
    found: Found = defaultdict(list)
    for _ in range(options.rounds):
        with started(options) as server:
            rig = Rig(partial(drive, server.url), server.usage, options.seconds)
            for step, requests in steps.items():
                vectors_of(server, requests[:1])
                found[step] += rig.measure(Stream(requests))
    return found


def started(options: argparse.Namespace, *more: str) -> AbstractContextManager[Server]:
    return encserve(options.store, options.model, *more, variant=options.variant)


def report(name: str, found: Found) -> None:
    columns = [column for column in COLUMNS if column not in ("refused", "errors")]
    rows = [[str(step), *cells(medians(rounds), columns)] for step, rounds in found.items()]
    print_table([name, *columns], rows, names=0)


if __name__ == "__main__":
    main()
