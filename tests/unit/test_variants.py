"""Which variant of a model is served: the fastest that was admitted, or the one asked for."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.errors import InvalidField
from service.loading import load_engines
from service.metrics import Metrics
from service.offline import variants
from service.offline.export import MODEL_FILE, publish_embedding
from service.offline.gate import Encode, Verdict
from service.offline.progress import Progress
from service.runtime.outputs import unit_length
from service.runtime.session import PackedEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.settings import load_settings
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import ModelRepository
from tests.conftest import SENTENCES, tiny_checkpoint


def admit(fp32: Encode, int8: Encode) -> Verdict:
    return Verdict({"mean_cosine": 1.0}, ())


@pytest.fixture
def store(tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose int8 variant is the faster one."""
    speeds = {MODEL_FILE: 1.0, variants.INT8_FILE: 2.0}
    monkeypatch.setattr(variants, "_speeds", lambda encoders, texts: speeds)
    repository = ModelRepository(tmp_path / "store")
    publish_embedding(repository, "tiny", tiny_checkpoint(tmp_path), quiet, SENTENCES, admit)
    return repository.root


def served(store: Path, variant: str | None) -> tuple[np.ndarray, str]:
    """The vector that the server gives for a text, and its metrics page."""
    registry = CollectorRegistry()

    async def ask() -> np.ndarray:
        settings = load_settings(model_store=store, variant=variant)
        engines = load_engines(settings, Metrics(registry))
        engines.start()
        try:
            answer = await engines.get("tiny").embed(["the food is good"])
            return np.asarray(answer.rows[0])
        finally:
            await engines.close()

    return asyncio.run(ask()), generate_latest(registry).decode()


def run_alone(store: Path, variant: str) -> np.ndarray:
    model = ModelRepository(store).resolve("tiny")
    manifest = model.manifest
    tokens = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens).encode(["the food is good"])
    session = open_session(model.file(manifest.file_of(variant)))
    encoder = PackedEncoder(session, manifest.output, manifest.width)
    return np.asarray(unit_length(encoder([tokens[0].token_ids]))[0])


@pytest.mark.parametrize(("asked", "given"), [(None, "int8"), ("int8", "int8"), ("fp32", "fp32")])
def test_fastest_variant_is_served_unless_another_is_asked_for(
    store: Path, asked: str | None, given: str
) -> None:
    vector, page = served(store, asked)
    assert vector == pytest.approx(run_alone(store, given), abs=1e-6)
    assert f'variant="{given}"' in page
    other = run_alone(store, "fp32" if given == "int8" else "int8")
    assert np.abs(vector - other).max() > 1e-5


def test_variant_that_a_model_lacks_ends_the_start_and_names_what_it_has(tiny_store: Path) -> None:
    settings = load_settings(model_store=tiny_store, variant="int8")
    with pytest.raises(InvalidField, match=r"no variant 'int8'.*it has fp32"):
        load_engines(settings, Metrics(CollectorRegistry()))
