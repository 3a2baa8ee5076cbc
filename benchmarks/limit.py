"""The ceiling: the same ONNX file in process, tokens prepared, all cores; and the server's share.

    python -m benchmarks.limit [--model embedding] [--variant fp32] [--texts FILE.tsv] [--rounds 3]

Each round runs every shape in process for some seconds, then drives the server with the same texts
one at a time from 32 clients, who take their part of the same cores. Medians of the rounds.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import STORE, load_encoder, machine
from benchmarks.figures import Rig, print_table
from benchmarks.generator import Stream, load_generator
from benchmarks.processes import encserve
from benchmarks.traffic import Traffic, distinct_texts
from service.runtime.cpus import available_cpus
from service.runtime.speed import tokens_per_s

BUDGETS = (64, 128, 256, 512)
CLIENTS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--variant", default="", help="fp32 or int8 (default: the fastest)")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    encoder, tokenizer, manifest = load_encoder(options.store, options.model, options.variant)
    requests = Traffic(options.store, options.model).requests(distinct_texts(options.texts))
    texts = [text.token_ids for text in tokenizer.encode([one.texts[0] for one in requests])]
    found: dict[str, list[float]] = {}
    with (
        load_generator() as drive,
        encserve(options.store, options.model, variant=options.variant) as server,
    ):
        rig = Rig(partial(drive, server.url), server.usage, options.seconds)
        for turn in range(options.rounds):
            for budget in BUDGETS:
                rate = tokens_per_s(
                    encoder,
                    texts,
                    max_batch_tokens=budget,
                    workers=available_cpus(),
                    seconds=options.seconds,
                )
                found.setdefault(f"in process, {budget} tokens a run", []).append(rate)
            first = turn * len(requests) // options.rounds
            (figures,) = rig.measure(Stream(requests, CLIENTS, first=first))
            found.setdefault(f"server, {CLIENTS} clients", []).append(figures.tokens_per_s)
    print(f"{machine()}; {options.variant or manifest.default_variant}\n")
    report(found, sum(map(len, texts)) / len(texts))


def report(found: dict[str, list[float]], mean_tokens: float) -> None:
    rates = {name: median(rounds) for name, rounds in found.items()}
    ceiling = max(rate for name, rate in rates.items() if name.startswith("in process"))
    rows = [
        [name, f"{rate:.0f}", f"{rate / mean_tokens:.1f}", f"{rate / ceiling:.2f}"]
        for name, rate in rates.items()
    ]
    print_table(["", "tokens/s", "texts/s", "of the ceiling"], rows)


if __name__ == "__main__":
    main()
