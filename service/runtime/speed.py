"""How fast a model runs on this machine: runs side by side on tokens that are ready."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

Run = Callable[[Sequence[Sequence[int]]], object]


def tokens_per_s(
    run: Run,
    texts: Sequence[Sequence[int]],
    *,
    max_batch_tokens: int,
    workers: int = 1,
    seconds: float,
    most_runs: int | None = None,
) -> float:
    """Tokens a second of `workers` threads that call `run`, each again and again.

    Args:
        texts: token ids, in batches in their order; taken again from the start when they end.
        max_batch_tokens: of one run, unless a single text has more.
        seconds: after which no run begins.
        most_runs: of each thread; done sooner, the measurement ends before its time.
    """
    stop_s = time.perf_counter() + seconds

    def work(number: int) -> int:
        tokens = 0
        # Each starts elsewhere, so that no two run the same.
        first = number * len(texts) // workers
        batches = _batches([*texts[first:], *texts[:first]], max_batch_tokens)
        for batch in islice(batches, most_runs):
            run(batch)
            tokens += sum(map(len, batch))
            if time.perf_counter() > stop_s:
                break
        return tokens

    started_s = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        tokens = sum(threads.map(work, range(workers)))
    return tokens / (time.perf_counter() - started_s)


def _batches(texts: Sequence[Sequence[int]], budget: int) -> Iterator[list[Sequence[int]]]:
    """Batches of at most `budget` tokens, or of one longer text, again and again."""
    batch: list[Sequence[int]] = []
    for text in cycle(texts):
        if batch and sum(map(len, batch)) + len(text) > budget:
            yield batch
            batch = []
        batch.append(text)
