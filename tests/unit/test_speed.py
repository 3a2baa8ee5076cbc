"""How a model's speed is measured: with all of its texts, until the time or the runs are over."""

import threading
from collections.abc import Sequence

import pytest

from service.runtime.speed import tokens_per_s

TEXTS = [[1] * length for length in (3, 1, 4, 1, 5)]


class Counting:
    """A model that remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[Sequence[int]]) -> None:
        with self._lock:
            self.batches.append([len(text) for text in texts])


def test_batches_keep_to_the_budget_and_begin_anew_when_the_texts_end() -> None:
    run = Counting()
    assert tokens_per_s(run, TEXTS, max_batch_tokens=4, seconds=60, most_runs=5) > 0
    assert run.batches == [[3, 1], [4], [1], [5], [3, 1]]


@pytest.mark.parametrize("workers", [1, 3])
def test_measurement_ends_with_the_runs_of_each_thread(workers: int) -> None:
    run = Counting()
    tokens_per_s(run, TEXTS, max_batch_tokens=8, workers=workers, seconds=60, most_runs=7)
    assert len(run.batches) == 7 * workers


def test_measurement_ends_with_its_time_whatever_the_runs() -> None:
    run = Counting()
    tokens_per_s(run, TEXTS, max_batch_tokens=8, seconds=0, most_runs=7)
    assert len(run.batches) == 1
