"""What a batcher tells of runs whose callers are traced; and it serves them whatever comes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.batching.batcher import Batcher
from service.batching.pending import Timing
from service.batching.workers import WorkerPool
from service.metrics import Metrics, OnBatch
from tests.unit.fakes import POISON, FakeEncoder, GatedEncoder, Row


class Noted:
    """Keeps what it is told of runs, and numbers them."""

    def __init__(self) -> None:
        self.runs: list[tuple[list[int], int, set[object]]] = []

    def __call__(
        self,
        model: str,
        version: str,
        lengths: Sequence[int],
        failed: int,
        started_s: float,
        ended_s: float,
        spans: Sequence[object],
    ) -> object:
        assert (model, version) == ("m", "1")
        assert started_s <= ended_s
        self.runs.append((list(lengths), failed, set(spans)))
        return f"run {len(self.runs)}"


def batcher_of(encoder: FakeEncoder, on_batch: OnBatch, pool: WorkerPool) -> Batcher[Row]:
    metrics = Metrics(CollectorRegistry())
    metrics.on_batch = on_batch
    model = metrics.of_model("m", "1")
    return Batcher(
        encoder, pool, model, model="m", max_batch_tokens=8, max_queue_tokens=64, max_runs=1
    )


def test_run_names_all_traced_callers_and_each_of_them_its_run() -> None:
    noted, encoder, pool = Noted(), GatedEncoder(), WorkerPool(1)
    first, second, joined = Timing(span="first"), Timing(span="second"), Timing(span="joined")

    async def ask() -> None:
        batcher = batcher_of(encoder, noted, pool)
        batcher.start()
        asked: list[asyncio.Task[Any]] = [
            asyncio.create_task(batcher.submit([[1, 1]], timing=first))
        ]
        await encoder.until_running()
        asked += [
            asyncio.create_task(batcher.submit([[1, 1]], timing=joined)),
            asyncio.create_task(batcher.submit_each([[2], [POISON]], timing=second)),
            asyncio.create_task(batcher.submit([[3]])),
        ]
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(*asked)
        await batcher.close(grace_s=1)

    asyncio.run(ask())
    pool.close()
    assert noted.runs == [([2], 0, {"first", "joined"}), ([1, 1, 1], 1, {"second"})]
    assert (first.runs, joined.runs, second.runs) == (["run 1"], ["run 1"], ["run 2"])
    assert 0 < first.run_from_s < first.done_at_s


@pytest.mark.parametrize("span", [None, "traced"])
def test_tracing_that_fails_costs_nobody_an_answer(
    span: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("no spans today")

    pool = WorkerPool(1)

    async def ask() -> None:
        batcher = batcher_of(FakeEncoder(), broken, pool)
        batcher.start()
        for text in ([1], [2, 2]):
            assert await batcher.submit([text], timing=Timing(span=span)) == [tuple(text)]
        assert not batcher.broken
        await batcher.close(grace_s=1)

    asyncio.run(ask())
    pool.close()
    assert ("a batch could not be traced: RuntimeError" in caplog.text) == (span is not None)
