"""What a large run leaves behind: onnxruntime's arena gives it back."""

import ctypes
from pathlib import Path

import pytest

from service.runtime import session as runtime
from service.runtime.session import PackedEncoder, open_session
from service.store.repository import ModelRepository
from tests.chaos.soak import memory_mib
from tests.conftest import TINY_MAX_TOKENS

# 64,000 tokens: the feed-forward layer alone takes 8 MiB.
TEXTS = [[5] * TINY_MAX_TOKENS] * 2000


def left_behind_mib(store: Path) -> float:
    """How much more memory the process holds after a large run than before, the model open."""
    model = ModelRepository(store).resolve("embedding")
    encoder = PackedEncoder(
        open_session(model.file("model.onnx")), model.manifest.output, model.manifest.width
    )
    encoder(TEXTS[:10])
    before = _memory_mib()
    encoder(TEXTS)
    return _memory_mib() - before


def _memory_mib() -> float:
    # What the C library keeps of freed memory for later is not the arena's.
    ctypes.CDLL(None).malloc_trim(0)
    return memory_mib("self")


def test_large_run_gives_back_what_the_arena_grew_by(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The least of some: what else this process keeps or frees meanwhile is not the arena's.
    shrunk = min(left_behind_mib(tiny_store) for _ in range(4))
    # The control: without it the arena keeps it.
    monkeypatch.setattr(runtime, "LARGE_RUN_TOKENS", 10**9)
    kept = left_behind_mib(tiny_store)
    assert kept > 16
    assert shrunk < kept / 4
