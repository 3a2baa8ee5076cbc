"""What was exported of any family is served as its authors mean it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service import tuning
from service.engine import Engine
from service.errors import BlankText, WrongTask
from service.loading import load_engines
from service.metrics import Metrics
from service.runtime.outputs import sigmoid
from service.settings import load_settings
from service.store.repository import PublishedModel
from tests.offline.any_models import (
    CLASSIFIERS,
    OTHERS,
    T,
    cross_encoder,
    export,
    logits,
    predictor,
)
from tests.offline.folders import (
    TEXTS,
    ask,
    bert,
    save,
    sentence_transformers_files,
    write,
)


def served(model: PublishedModel, body: Callable[[Engine], Any]) -> tuple[Any, str]:
    """What `body` gets from the engine, and the metrics page after it."""
    registry = CollectorRegistry()

    async def run() -> Any:
        settings = load_settings(model_store=model.path.parent.parent)
        engines = load_engines(settings, Metrics(registry))
        engines.start()
        try:
            return await body(engines.get("it"))
        finally:
            await engines.close()

    return asyncio.run(run()), generate_latest(registry).decode()


def test_other_encoder_is_served(base: Path) -> None:
    save(base, OTHERS["modernbert"]())
    model = export(base)
    answer, _ = served(model, lambda engine: engine.embed(TEXTS))
    assert answer.rows == pytest.approx(predictor(model).rows(TEXTS), abs=1e-4)


def with_prompts(base: Path) -> tuple[Any, PublishedModel]:
    reference = save(base, T.BertModel(bert()))
    sentence_transformers_files(base, pooling="cls")
    prompts = {"query": "a train: ", "document": ""}
    stated = {"prompts": prompts, "default_prompt_name": "query"}
    write(base / "config_sentence_transformers.json", stated)
    return reference, export(base)


def test_default_prompt_is_put_before_each_text(base: Path) -> None:
    reference, model = with_prompts(base)
    assert model.manifest.prompts == {"query": "a train: ", "document": ""}
    asked = ask(reference, [f"a train: {text}" for text in TEXTS])
    expected = np.concatenate([answer.last_hidden_state[:, 0].numpy() for answer in asked])
    answer, _ = served(model, lambda engine: engine.embed(TEXTS))
    assert answer.rows == pytest.approx(expected, abs=1e-5)
    assert predictor(model).rows(TEXTS) == pytest.approx(expected, abs=1e-5)


def test_prompt_does_not_fill_a_text_of_which_nothing_is_left(base: Path) -> None:
    _, model = with_prompts(base)
    with pytest.raises(BlankText, match="nothing that the model's tokenizer keeps"):
        served(model, lambda engine: engine.embed(["\x00\x01"]))


def test_scores_of_many_labels_are_served_each_by_itself(base: Path) -> None:
    reference = save(base, CLASSIFIERS["bert"](), problem_type="multi_label_classification")
    answer, page = served(export(base), lambda engine: engine.classify(TEXTS))
    assert answer.rows == pytest.approx(sigmoid(logits(ask(reference, TEXTS))), abs=1e-5)
    counts = [line for line in page.splitlines() if line.startswith("encserve_predictions_total{")]
    assert {line.rsplit(" ", 1)[-1] for line in counts} == {"0.0"}


def test_model_of_pairs_refuses_single_texts(base: Path) -> None:
    save(base, cross_encoder())
    with pytest.raises(WrongTask, match="judges two texts together"):
        served(export(base), lambda engine: engine.classify(TEXTS))


def test_model_of_pairs_is_tuned(base: Path) -> None:
    save(base, cross_encoder())
    measured = tuning.measure(export(base), "fp32", seconds=0.1, advance=lambda note: None)
    assert min(one.tokens_per_s for one in measured) > 0
