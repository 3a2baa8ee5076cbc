"""The engine with real parts, but for a tokenizer that notes which thread calls it."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.loading import load_engines
from service.metrics import Metrics
from service.runtime.session import open_session
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.settings import load_settings
from service.store.repository import ModelRepository


def test_long_request_is_tokenized_off_the_event_loop_in_portions(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    encode = Tokenizer.encode_whole

    def noting(self: Tokenizer, texts: Sequence[str]) -> list[Tokenized]:
        calls.append((threading.current_thread().name, len(texts)))
        return encode(self, texts)

    async def ask() -> None:
        engines = load_engines(load_settings(model_store=tiny_store), Metrics(CollectorRegistry()))
        monkeypatch.setattr(Tokenizer, "encode_whole", noting)
        engines.start()
        try:
            engine = engines.get("embedding")
            assert len((await engine.embed(["short"])).rows) == 1
            answer = await engine.embed([f"train {number} " * 100 for number in range(64)])
            assert len(answer.rows) == 64
        finally:
            await engines.close()

    asyncio.run(ask())
    (short_thread, _), *long_calls = calls
    assert short_thread == "MainThread"
    assert {thread for thread, _ in long_calls} == {"encserve-aside_0"}
    assert len(long_calls) > 2
    assert sum(texts for _, texts in long_calls) == 64


def test_session_runs_on_the_thread_that_calls_it(tiny_store: Path) -> None:
    model = ModelRepository(tiny_store).resolve("embedding")
    options = open_session(model.file(model.manifest.file_of("fp32"))).get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.inter_op_num_threads == 1
