"""`encserve export` of whatever there is: its answers are those of `transformers`."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from prometheus_client import CollectorRegistry, generate_latest
from safetensors.torch import save_file
from tokenizers import processors
from typer.testing import CliRunner

from service import cli, tuning
from service.engine import Engine
from service.errors import BlankText, CheckpointInvalid, InvalidField, ParityFailed, WrongTask
from service.loading import load_engines
from service.metrics import Metrics
from service.offline.predict import Predictor
from service.runtime.outputs import sigmoid
from service.settings import load_settings
from service.store.repository import ModelRepository, PublishedModel
from service.store.verification import verify
from tests.conftest import tiny_tokenizer
from tests.offline.folders import (
    DISTILBERT_SIZES,
    PAIRS,
    SIZES,
    TEXTS,
    ask,
    bert,
    change,
    save,
    sentence_transformers_files,
    skip_int8,
    write,
)

T: Any = transformers  # its configurations take more than their signatures say
LABELS = {"0": "sad", "1": "glad", "2": "mixed"}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    skip_int8(monkeypatch)
    return tmp_path / "base"


def export(base: Path, *options: str) -> PublishedModel:
    store = base.parent / "store"
    command = ["export", "it", "--from", str(base), "--model-store", str(store), *options]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = ModelRepository(store).resolve("it")
    verify(model)
    return model


def predictor(model: PublishedModel) -> Predictor:
    return Predictor(model.path, model.manifest, "fp32")


def logits(answers: Any) -> np.ndarray:
    return np.concatenate([answer.logits.numpy() for answer in answers])


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: T.BertForSequenceClassification(bert(num_labels=3)),
    "roberta": lambda: T.RobertaForSequenceClassification(T.RobertaConfig(**SIZES, num_labels=3)),
    "xlm-roberta": lambda: T.XLMRobertaForSequenceClassification(
        T.XLMRobertaConfig(**SIZES, num_labels=3)
    ),
    "distilbert": lambda: T.DistilBertForSequenceClassification(
        T.DistilBertConfig(**DISTILBERT_SIZES, num_labels=3)
    ),
    "electra": lambda: T.ElectraForSequenceClassification(
        T.ElectraConfig(**SIZES, embedding_size=8, num_labels=3)
    ),
}


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


def cross_encoder(**changes: Any) -> Any:
    return T.BertForSequenceClassification(bert(num_labels=1, **changes))


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


OTHERS: dict[str, Callable[[], Any]] = {
    # Counts positions from padding id 1, which our batches do not hold.
    "mpnet": lambda: T.MPNetModel(T.MPNetConfig(**SIZES)),
    "electra": lambda: T.ElectraModel(T.ElectraConfig(**SIZES, embedding_size=8)),
    "albert": lambda: T.AlbertModel(T.AlbertConfig(**SIZES, embedding_size=8)),
    "deberta-v2": lambda: T.DebertaV2Model(
        T.DebertaV2Config(
            **SIZES,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=8,
            type_vocab_size=0,
        )
    ),
    "modernbert": lambda: T.ModernBertModel(
        T.ModernBertConfig(
            **SIZES,
            local_attention=8,
            global_attn_every_n_layers=2,
            **dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 2),
            pad_token_id=0,
        )
    ),
    "nomic-bert": lambda: T.NomicBertModel(T.NomicBertConfig(**SIZES)),
    "xlnet": lambda: T.XLNetModel(
        T.XLNetConfig(vocab_size=SIZES["vocab_size"], d_model=16, n_layer=2, n_head=2, d_inner=24)
    ),
    "bert with another activation": lambda: T.BertModel(bert(hidden_act="relu")),
}


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


def dense(base: Path, activation: str, **changes: Any) -> torch.nn.Linear:
    """A Dense step behind the pooling."""
    layer = torch.nn.Linear(16, 6)
    (base / "2_Dense").mkdir()
    save_file(
        {"linear.weight": layer.weight.detach(), "linear.bias": layer.bias.detach()},
        base / "2_Dense" / "model.safetensors",
    )
    config = {"in_features": 16, "out_features": 6, "activation_function": activation}
    write(base / "2_Dense" / "config.json", config | changes)
    return layer


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


def pooling_of(mode: str) -> Callable[[Path], None]:
    return lambda base: sentence_transformers_files(base, pooling=mode)


def prompts_left_out(base: Path) -> None:
    write(base / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    write(base / "config_sentence_transformers.json", {"prompts": {"query": "find: "}})


def pickled_dense(base: Path) -> None:
    dense(base, "torch.nn.Tanh")
    (base / "2_Dense" / "model.safetensors").rename(base / "2_Dense" / "pytorch_model.bin")
    sentence_transformers_files(base, "Dense")


def residual_dense(base: Path) -> None:
    dense(base, "torch.nn.Tanh", use_residual=True)
    sentence_transformers_files(base, "Dense")


def cased_tokenizer_of_an_uncased_model(base: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.normalizer = None
    tokenizer.save(str(base / "tokenizer.json"))
    write(base / "sentence_bert_config.json", {"do_lower_case": True})


EMBEDDING_DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "the last token": (pooling_of("lasttoken"), "neither mean nor cls"),
    "the greatest": (pooling_of("max"), "neither mean nor cls"),
    "weights by position": (pooling_of("weightedmean"), "neither mean nor cls"),
    "an unknown step": (
        lambda base: sentence_transformers_files(base, "LayerNorm"),
        "known are Pooling, Dense, Normalize",
    ),
    "prompts left out of the pooling": (prompts_left_out, "leaves prompts out"),
    "a pickled layer": (pickled_dense, "pickled weights are not read"),
    "a layer with a way around it": (residual_dense, "no plain layer"),
    "a step elsewhere": (
        lambda base: write(
            base / "modules.json", [{"path": "../1_Pooling", "type": "st.models.Pooling"}]
        ),
        "no plain name",
    ),
    "an unknown default prompt": (
        lambda base: write(
            base / "config_sentence_transformers.json", {"default_prompt_name": "query"}
        ),
        "not among the prompts",
    ),
    "a tokenizer of another case": (cased_tokenizer_of_an_uncased_model, "do_lower_case"),
}


@pytest.mark.parametrize("activation", ["gelu", "relu"], ids=["packed", "padded"])
@pytest.mark.parametrize(
    ("damage", "words"), EMBEDDING_DAMAGES.values(), ids=EMBEDDING_DAMAGES.keys()
)
def test_embedding_that_cannot_be_made_as_its_authors_do_is_refused(
    base: Path, damage: Callable[[Path], Any], words: str, activation: str
) -> None:
    save(base, T.BertModel(bert(hidden_act=activation)))
    damage(base)
    with pytest.raises(CheckpointInvalid, match=words):
        export(base)


def without_separators(base: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = None
    tokenizer.save(str(base / "tokenizer.json"))


CLASSIFIER_DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a label too many": (
        lambda base: change(base / "config.json", id2label={"0": "a", "1": "b"}),
        "2 labels in config.json for 1 logits",
    ),
    "an unknown kind of problem": (
        lambda base: change(base / "config.json", problem_type="ranking"),
        "'ranking'",
    ),
    "no separator": (without_separators, "--no-pairs"),
    "a prompt before pairs": (
        lambda base: write(
            base / "config_sentence_transformers.json",
            {"model_type": "CrossEncoder", "default_prompt_name": "q", "prompts": {"q": "Is it? "}},
        ),
        "a prompt before pairs",
    ),
}


@pytest.mark.parametrize(
    ("damage", "words"), CLASSIFIER_DAMAGES.values(), ids=CLASSIFIER_DAMAGES.keys()
)
def test_classifier_whose_answers_would_mean_something_else_is_refused(
    base: Path, damage: Callable[[Path], Any], words: str
) -> None:
    save(base, cross_encoder())
    damage(base)
    with pytest.raises(CheckpointInvalid, match=words):
        export(base)


def test_weights_that_a_padded_model_lacks_are_not_made_up(base: Path) -> None:
    save(base, OTHERS["electra"](), architectures=["ElectraForSequenceClassification"])
    with pytest.raises(CheckpointInvalid, match="classifier"):
        export(base)


def test_code_that_comes_with_a_model_is_not_run(base: Path) -> None:
    save(base, OTHERS["electra"](), model_type="own", auto_map={"AutoModel": "own.OwnModel"})
    (base / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(CheckpointInvalid, match="transformers cannot load"):
        export(base)


def test_pickled_weights_of_another_family_are_refused(base: Path) -> None:
    reference = save(base, OTHERS["electra"]())
    (base / "model.safetensors").unlink()
    torch.save(reference.state_dict(), base / "pytorch_model.bin")
    with pytest.raises(CheckpointInvalid, match="pickled weights are not read"):
        export(base)


def test_encoder_that_neighbours_change_is_refused(base: Path) -> None:
    """Its convolutions reach over the end of a text into what fills the batch up."""
    save(base, T.ConvBertModel(T.ConvBertConfig(**SIZES, embedding_size=16)))
    with pytest.raises(ParityFailed, match="nothing was published"):
        export(base)


def test_encoder_that_the_exporter_cannot_write_points_to_import(
    base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(base, T.FNetModel(T.FNetConfig(**SIZES)))
    with pytest.raises(CheckpointInvalid, match="encserve import"):
        export(base)


def test_encoder_with_a_decoder_is_refused(base: Path) -> None:
    config = T.T5Config(vocab_size=SIZES["vocab_size"], d_model=16, d_kv=8, d_ff=16, num_layers=1)
    save(base, T.T5Model(config))
    with pytest.raises(CheckpointInvalid, match="an encoder and a decoder"):
        export(base)


def test_scored_pairs_judge_embeddings_only(base: Path, tmp_path: Path) -> None:
    save(base, CLASSIFIERS["bert"]())
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\tscore\na\tb\t4.5\n")
    with pytest.raises(InvalidField, match="--int8-data"):
        export(base, "--int8-data", str(pairs))
