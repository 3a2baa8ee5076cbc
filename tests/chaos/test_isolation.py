"""Texts that make the model fail, among texts of others: who fails, and what the others get.

The graphs are real ones that answer NaN, raise an error, or ask for more memory than there is,
when a text of the batch has a marked word; all of it happens in onnxruntime.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.engine import Engine
from service.errors import InferenceFailed
from service.loading import load_engines
from service.metrics import Metrics
from service.options import Options
from service.runtime.outputs import FloatArray
from service.settings import load_settings
from tests.chaos.sizes import size
from tests.conftest import SENTENCES
from tests.integration.poisoned import ERROR, MEMORY, NAN, poisoned_store

REQUESTS = size(10_000, 100)
MOST_TEXTS = 32
SIDE_BY_SIDE = 24
POISONS = (NAN, ERROR, MEMORY)
# Of the texts; about a third of the batches has one.
POISONED_SHARE = 0.04
# As far as the order of additions may move a number of a vector of length one.
TOLERANCE = 1e-5
MODEL = {"model": "embedding", "version": "1"}
WORDS = " ".join(SENTENCES).split()


def sound_text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))


def mixed_texts(chance: random.Random) -> list[str]:
    texts = [sound_text(chance) for _ in range(chance.randint(1, MOST_TEXTS))]
    return [
        f"{text} {chance.choice(POISONS)}" if chance.random() < POISONED_SHARE else text
        for text in texts
    ]


def is_poisoned(text: str) -> bool:
    return text.rpartition(" ")[2] in POISONS


async def rows_of(engine: Engine, texts: list[str]) -> list[tuple[str, FloatArray]]:
    """Ask for all at once; the poisoned fail, each of the others has a row."""
    answer = await engine.embed(texts, Options(partial=True))
    assert set(answer.errors) == {index for index, text in enumerate(texts) if is_poisoned(text)}
    assert all(isinstance(error, InferenceFailed) for error in answer.errors.values())
    return [
        (text, row)
        for index, (text, row) in enumerate(zip(texts, answer.rows, strict=True))
        if index not in answer.errors
    ]


async def rows_alone(engine: Engine, texts: Iterable[str]) -> dict[str, FloatArray]:
    """One after the other: each is a batch of its own."""
    return {text: (await engine.embed([text])).rows[0] for text in dict.fromkeys(texts)}


def farthest(rows: Iterable[tuple[str, FloatArray]], alone: dict[str, FloatArray]) -> float:
    """The largest difference of a number of a text's row from what the text has alone."""
    return max(float(np.abs(row - alone[text]).max()) for text, row in rows)


def with_engine(
    store: Path,
    body: Callable[[Engine], Coroutine[Any, Any, None]],
    registry: CollectorRegistry | None = None,
) -> None:
    """Around the embedding model of `store`, without a cache: every answer is computed."""

    async def run() -> None:
        settings = load_settings(
            model_store=store, models=("embedding",), cache_bytes=0, probe=False
        )
        engines = load_engines(settings, Metrics(registry or CollectorRegistry()))
        engines.start()
        try:
            await body(engines.get("embedding"))
        finally:
            await engines.close(grace_s=5)

    asyncio.run(run())


def test_of_mixed_batches_only_the_poisoned_texts_fail_and_the_others_keep_row_and_order(
    tmp_path: Path, tiny_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(7)
    requests = [mixed_texts(chance) for _ in range(REQUESTS)]
    registry = CollectorRegistry()
    rows: list[tuple[str, FloatArray]] = []
    alone: dict[str, FloatArray] = {}
    batches = 0.0

    async def body(engine: Engine) -> None:
        nonlocal batches
        side_by_side = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(texts: list[str]) -> None:
            async with side_by_side:
                rows.extend(await rows_of(engine, texts))

        await asyncio.gather(*map(one, requests))
        assert engine.ready
        batches = registry.get_sample_value("encserve_batch_texts_count", MODEL) or 0
        alone.update(await rows_alone(engine, (text for text, _ in rows)))

    with_engine(poisoned_store(tmp_path / "store", tiny_store), body, registry)
    texts = [text for request in requests for text in request]
    poisoned = sum(map(is_poisoned, texts))
    assert poisoned > REQUESTS / 4
    assert len(rows) == len(texts) - poisoned
    assert farthest(rows, alone) <= TOLERANCE
    assert registry.get_sample_value("encserve_queue_tokens", MODEL) == 0
    # What the runtime says of an error quotes what it was fed.
    assert "onnxruntime" not in capfd.readouterr().err
    with capfd.disabled():
        print(
            f"{REQUESTS} requests, {batches:.0f} batches, {poisoned} texts poisoned, {len(rows)} "
            f"sound: farthest from alone {farthest(rows, alone):.1e}"
        )


def test_comparison_sees_rows_that_are_exchanged_or_changed(tiny_store: Path) -> None:
    """The control: with rows of other texts, or changed by little, the proof above fails."""

    async def body(engine: Engine) -> None:
        texts = ["the food is good", "a bad train"]
        rows = await rows_of(engine, texts)
        alone = await rows_alone(engine, texts)
        assert farthest(rows, alone) <= TOLERANCE
        exchanged = dict(zip(texts, reversed(list(alone.values())), strict=True))
        assert farthest(rows, exchanged) > TOLERANCE
        changed = {text: row + 2 * TOLERANCE for text, row in alone.items()}
        assert farthest(rows, changed) > TOLERANCE

    with_engine(tiny_store, body)


@pytest.mark.parametrize("poison", POISONS)
def test_poisoned_text_fails_alone_and_the_next_one_is_answered(
    tmp_path: Path, tiny_store: Path, poison: str
) -> None:
    async def body(engine: Engine) -> None:
        with pytest.raises(InferenceFailed):
            await engine.embed([poison])
        assert len((await engine.embed(["good"])).rows) == 1
        assert engine.ready

    with_engine(poisoned_store(tmp_path / "store", tiny_store), body)
