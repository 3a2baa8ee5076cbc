"""What cannot be exported so that its answers mean the same is refused, with a way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.errors import CheckpointInvalid, InvalidField, ParityFailed
from tests.conftest import tiny_tokenizer
from tests.offline.any_models import (
    CLASSIFIERS,
    OTHERS,
    T,
    cross_encoder,
    dense,
    export,
)
from tests.offline.folders import (
    SIZES,
    bert,
    change,
    save,
    sentence_transformers_files,
    write,
)


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
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    save(base, OTHERS["electra"](), model_type="own", auto_map=own)
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
