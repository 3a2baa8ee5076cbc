"""`encserve bulk` against the ceiling of `benchmarks.limit`, in turns on the same texts.

    python -m benchmarks.bulk FILE.tsv [--rows 60000] [--model embedding] [--variant int8]

The texts of the file, again and again, go through a job of that many rows. After every few parts of
it the same session runs token ids that are ready, with each budget of `benchmarks.limit`. Also by
time of the processor, which other programs on the machine disturb less than the clock.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.common import STORE, load_encoder, machine
from benchmarks.figures import print_table
from benchmarks.limit import BUDGETS
from benchmarks.traffic import Traffic, distinct_texts
from service.bulk.encoding import Advance
from service.bulk.job import Job, Options, Part
from service.bulk.reading import Reader
from service.bulk.run import Asked, encode_parts, open_encoder, run_job
from service.bulk.writing import PartWriter
from service.loading import plan
from service.runtime.cpus import available_cpus
from service.runtime.speed import tokens_per_s
from service.settings import Settings, load_settings
from service.store.repository import ModelRepository

PARTS_IN_A_TURN = 3


@dataclass
class InTurns:
    """Tokens a second of the job and of each budget, by the clock and by the processor's time.

    ceiling: from a budget and seconds to the rate of token ids that are ready.
    """

    ceiling: Callable[[int, float], float]
    seconds: float
    tokens: int
    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def __call__(
        self, asked: Asked, job: Job, parts: Sequence[Part], settings: Settings, advance: Advance
    ) -> float:
        reader = Reader(job.inputs, job.options.column)
        writer = PartWriter(asked.out, job, asked.plan.model.manifest)
        took_s = 0.0
        with open_encoder(asked.plan, job, settings, asked.plan.shape.workers) as encoder:
            for at in range(0, len(parts), PARTS_IN_A_TURN):
                turn = parts[at : at + PARTS_IN_A_TURN]
                tokens = self.tokens * sum(part.rows for part in turn) // job.rows
                before_s = time.process_time()
                turn_s = encode_parts(turn, encoder, reader, writer, advance)
                self._note("bulk", tokens / turn_s, turn_s, time.process_time() - before_s)
                took_s += turn_s
                for budget in BUDGETS:
                    before_s = time.process_time()
                    rate = self.ceiling(budget, self.seconds)
                    used_s = time.process_time() - before_s
                    self._note(f"in process, {budget} tokens a run", rate, self.seconds, used_s)
        return took_s

    def _note(self, name: str, rate: float, took_s: float, used_s: float) -> None:
        cores = used_s / took_s
        self.wall.setdefault(name, []).append(rate)
        self.processor.setdefault(name, []).append(rate / cores)
        print(f"{name}: {rate:.0f} tokens/s, {rate / cores:.0f} a core, {cores:.2f} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--variant", default="")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args()
    settings = load_settings(model_store=options.store, variant=options.variant)
    chosen = plan(ModelRepository(options.store).resolve(options.model), settings)
    encoder, tokenizer, _ = load_encoder(options.store, options.model, chosen.variant)
    requests = Traffic(options.store, options.model).requests(distinct_texts(options.texts))
    ready = [text.token_ids for text in tokenizer.encode([one.texts[0] for one in requests])]

    def ceiling(budget: int, seconds: float) -> float:
        return tokens_per_s(
            encoder, ready, max_batch_tokens=budget, workers=available_cpus(), seconds=seconds
        )

    header, *lines = options.texts.read_text(encoding="utf-8").splitlines()
    rows = list(islice(cycle(lines), options.rows))
    column = header.split("\t").index("text")
    lengths = {
        line: len(text.token_ids)
        for line, text in zip(
            lines, tokenizer.encode([line.split("\t")[column] for line in lines]), strict=True
        )
    }
    with TemporaryDirectory() as folder:
        given = Path(folder) / "in.tsv"
        given.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
        work = InTurns(ceiling, options.seconds, sum(lengths[line] for line in rows))
        asked = Asked(str(given), Path(folder) / "out", chosen, "text", Options())
        summary = run_job(asked, settings, _unseen, work)
    print(f"\n{machine()}; {chosen.variant}; {summary.rows_out} rows, {summary.failed} failed\n")
    report(work)


@contextmanager
def _unseen(description: str, rows: int, done: int) -> Iterator[Callable[[int], None]]:
    yield lambda more: None


def report(work: InTurns) -> None:
    wall = {name: median(rates) for name, rates in work.wall.items()}
    processor = {name: median(rates) for name, rates in work.processor.items()}
    best, best_processor = (
        max(rate for name, rate in rates.items() if name != "bulk") for rates in (wall, processor)
    )
    rows = [
        [
            name,
            f"{wall[name]:.0f}",
            f"{wall[name] / best:.2f}",
            f"{processor[name]:.0f}",
            f"{processor[name] / best_processor:.2f}",
        ]
        for name in wall
    ]
    print_table(["", "tokens/s", "of the ceiling", "tokens/s a core used", "of the ceiling"], rows)


if __name__ == "__main__":
    main()
