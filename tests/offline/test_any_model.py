"""`encserve export` of whatever there is: its answers are those of `transformers`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import processors

from service.errors import CheckpointInvalid
from service.runtime.outputs import sigmoid
from tests.conftest import tiny_tokenizer
from tests.offline.any_models import (
    CLASSIFIERS,
    OTHERS,
    T,
    cross_encoder,
    dense,
    export,
    logits,
    predictor,
)
from tests.offline.folders import (
    PAIRS,
    SIZES,
    TEXTS,
    ask,
    bert,
    change,
    save,
    sentence_transformers_files,
    write,
)

LABELS = {"0": "sad", "1": "glad", "2": "mixed"}

PACKED = ("bert", "roberta", "xlm-roberta", "distilbert")


@pytest.mark.parametrize("family", PACKED)
def test_classifier_of_the_bert_family_answers_as_transformers_does(
    base: Path, family: str
) -> None:
    reference = save(base, CLASSIFIERS[family](), id2label=LABELS)
    model = export(base)
    manifest = model.manifest
    assert (manifest.task, manifest.layout) == ("classification", "packed")
    assert (manifest.labels, manifest.problem_type) == (("sad", "glad", "mixed"), "single_label")
    expected = logits(ask(reference, TEXTS))
    assert predictor(model).rows(TEXTS) == pytest.approx(expected, abs=1e-5)
    assert predictor(model).scores(TEXTS).sum(axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("stated", "meant"),
    [("multi_label_classification", "multi_label"), ("regression", "regression")],
)
def test_kind_of_problem_is_the_one_that_the_config_states(
    base: Path, stated: str, meant: str
) -> None:
    save(base, CLASSIFIERS["bert"](), problem_type=stated)
    assert export(base).manifest.problem_type == meant


def test_cross_encoder_reads_pairs_with_their_segments(base: Path) -> None:
    reference = save(base, cross_encoder())
    model = export(base)
    manifest = model.manifest
    assert manifest.inputs[-1] == "token_type_ids"
    assert manifest.pair_separator_id == tiny_tokenizer().token_to_id("[SEP]")
    assert (manifest.labels, manifest.problem_type) == (("LABEL_0",), "regression")
    expected = logits(ask(reference, PAIRS))
    assert np.ptp(expected) > 0.01
    assert predictor(model).scores(PAIRS) == pytest.approx(expected, abs=1e-5)
    unaware = logits(ask(reference, PAIRS, segments=False))
    assert np.abs(unaware - expected).max() > 1e-3


SIGMOIDS: dict[str, Callable[[Path], None]] = {
    "now": lambda folder: change(
        folder / "config.json",
        sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"},
    ),
    "before": lambda folder: change(
        folder / "config.json",
        sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid",
    ),
    "beside": lambda folder: write(
        folder / "config_sentence_transformers.json",
        {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"},
    ),
}


@pytest.mark.parametrize("place", SIGMOIDS)
def test_cross_encoder_with_a_sigmoid_serves_probabilities(base: Path, place: str) -> None:
    reference = save(base, cross_encoder())
    SIGMOIDS[place](base)
    model = export(base)
    assert model.manifest.problem_type == "multi_label"
    expected = sigmoid(logits(ask(reference, PAIRS)))
    assert predictor(model).scores(PAIRS) == pytest.approx(expected, abs=1e-5)


def mark_no_segments(base: Path) -> None:
    """As RoBERTa's tokenizers: the second text of a pair is of the first's segment."""
    tokenizer = tiny_tokenizer()
    specials = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=specials
    )
    tokenizer.save(str(base / "tokenizer.json"))


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra"])
def test_pairs_of_a_family_without_segments_are_told_apart_by_separators(
    base: Path, family: str
) -> None:
    reference = save(base, CLASSIFIERS[family]())
    mark_no_segments(base)
    model = export(base, "--pairs")
    assert "token_type_ids" not in model.manifest.inputs
    expected = logits(ask(reference, PAIRS, segments=False))
    assert predictor(model).rows(PAIRS) == pytest.approx(expected, abs=1e-4)


def test_single_score_of_single_texts_needs_a_word(base: Path) -> None:
    reference = save(base, cross_encoder())
    model = export(base, "--no-pairs")
    assert model.manifest.pair_separator_id is None
    expected = logits(ask(reference, TEXTS))
    assert predictor(model).rows(TEXTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", OTHERS)
def test_other_encoder_answers_as_transformers_does_alone_and_in_company(
    base: Path, family: str
) -> None:
    reference = save(base, OTHERS[family]())
    sentence_transformers_files(base, "Normalize")
    # XLNet's config knows no longest text.
    write(base / "tokenizer_config.json", {"model_max_length": 38})
    model = export(base)
    manifest = model.manifest
    assert (manifest.task, manifest.layout, manifest.width) == ("embedding", "padded", 16)
    assert (manifest.pooling, manifest.normalized) == ("mean", True)
    means = [answer.last_hidden_state.mean(dim=1) for answer in ask(reference, TEXTS)]
    expected = torch.nn.functional.normalize(torch.cat(means), dim=1).numpy()
    together = predictor(model).rows(TEXTS)
    alone = np.concatenate([predictor(model).rows([text]) for text in TEXTS])
    assert together == pytest.approx(expected, abs=1e-4)
    assert alone == pytest.approx(expected, abs=1e-4)


def test_positions_that_padding_takes_are_not_promised(base: Path) -> None:
    save(base, OTHERS["mpnet"]())
    assert export(base).manifest.max_tokens == SIZES["max_position_embeddings"] - 2


def test_classifier_of_another_family_reads_pairs(base: Path) -> None:
    reference = save(base, CLASSIFIERS["electra"](), id2label=LABELS)
    model = export(base, "--pairs")
    assert (model.manifest.layout, model.manifest.labels) == ("padded", ("sad", "glad", "mixed"))
    expected = logits(ask(reference, PAIRS))
    assert predictor(model).rows(PAIRS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["packed", "padded"])
@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Tanh", "torch.nn.Identity"])
def test_dense_step_behind_the_pooling_is_part_of_the_graph(
    base: Path, family: str, activation: str
) -> None:
    plain = T.BertModel(bert(hidden_act="gelu" if family == "packed" else "relu"))
    reference = save(base, plain)
    layer = dense(base, activation)
    sentence_transformers_files(base, "Dense", "Normalize")
    model = export(base)
    assert (model.manifest.layout, model.manifest.width) == (family, 6)
    pooled = torch.cat([answer.last_hidden_state.mean(dim=1) for answer in ask(reference, TEXTS)])
    with torch.inference_mode():
        made = layer(pooled).tanh() if "Tanh" in activation else layer(pooled)
        expected = torch.nn.functional.normalize(made, dim=1).numpy()
    assert predictor(model).rows(TEXTS) == pytest.approx(expected, abs=1e-5)


def test_longest_input_can_be_cut_shorter_and_not_made_longer(base: Path) -> None:
    save(base, T.BertModel(bert()))
    write(base / "tokenizer_config.json", {"model_max_length": 30})
    assert export(base).manifest.max_tokens == 30
    assert export(base, "--max-tokens", "12").manifest.max_tokens == 12
    with pytest.raises(CheckpointInvalid, match="40 positions"):
        export(base, "--max-tokens", "41")


def test_model_that_says_no_longest_input_needs_a_word(base: Path) -> None:
    save(base, OTHERS["xlnet"]())
    with pytest.raises(CheckpointInvalid, match="--max-tokens"):
        export(base)
    assert export(base, "--max-tokens", "20").manifest.max_tokens == 20
