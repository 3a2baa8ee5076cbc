"""What a classifier's logits are, as its `config.json` says: labels, kind of problem, pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import CheckpointInvalid
from service.offline.model_folder import read_json_if_there
from service.offline.sentence_files import EmbeddingUse, makes_embeddings
from service.runtime.outputs import ProblemType
from service.runtime.tokenizer import Tokenizer

# For two texts of a letter each.
_ENOUGH_TOKENS = 16
_PROBLEM_TYPES: dict[str, ProblemType] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}


@dataclass(frozen=True)
class ClassifierUse:
    """What the authors answer.

    labels: in the order of the logits. reads_pairs: it judges two texts together.
    """

    labels: tuple[str, ...]
    problem_type: ProblemType
    reads_pairs: bool

    def fields(self) -> dict[str, Any]:
        """What of it a manifest states; pooling is the graph's own affair."""
        return {
            "task": "classification",
            "pooling": None,
            "labels": self.labels,
            "problem_type": self.problem_type,
        }


def is_classifier(folder: Path, config: Mapping[str, Any]) -> bool:
    """True of the folder of a sequence classifier, a cross-encoder among them."""
    architectures = config.get("architectures") or [""]
    named = str(architectures[0]).endswith("ForSequenceClassification")
    return named and not makes_embeddings(folder)


def classifier_use(
    folder: Path, config: Mapping[str, Any], pairs: bool | None = None
) -> ClassifierUse:
    """What the files in `folder` say.

    Args:
        config: its parsed `config.json`.
        pairs: whether texts come in pairs; None: those of a cross-encoder and a single score do.

    Raises:
        CheckpointInvalid: the labels are not told apart, or the kind of problem is unknown.
    """
    labels = _labels(config)
    cross_encoder = _cross_encoder_settings(folder, config)
    if cross_encoder.get("default_prompt_name"):
        raise CheckpointInvalid(f"{folder} puts a prompt before pairs, which is not done here")
    reads_pairs = bool(cross_encoder) or len(labels) == 1 if pairs is None else pairs
    return ClassifierUse(labels, _problem_type(config, labels, cross_encoder), reads_pairs)


def separator_id_of(use: ClassifierUse | EmbeddingUse, tokenizer_file: Path) -> int | None:
    """The token that ends the first text of a pair; None where single texts are read.

    Raises:
        CheckpointInvalid: the tokenizer puts no separator between the texts of a pair.
    """
    if isinstance(use, EmbeddingUse) or not use.reads_pairs:
        return None
    tokenizer = Tokenizer(tokenizer_file, _ENOUGH_TOKENS, pairs=True)
    (pair,) = tokenizer.encode_pairs([("a", "b")])
    separator_id = pair.token_ids[-1]
    if separator_id not in pair.token_ids[1:-1]:
        raise CheckpointInvalid(
            "the tokenizer does not end both texts of a pair with one separator: use --no-pairs, "
            "or give tokenizer.json a post-processor for pairs"
        )
    return separator_id


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of `id2label`; transformers writes none where they are its defaults."""
    names = config.get("id2label") or {}
    count = len(names) or int(config.get("num_labels") or 2)
    try:
        labels = tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(count))
    except AttributeError as error:
        raise CheckpointInvalid("id2label of config.json is not a JSON object") from error
    if len(set(labels)) < len(labels):
        raise CheckpointInvalid("id2label of config.json names a label twice: give each its name")
    return labels


def _cross_encoder_settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What sentence-transformers keeps of a cross-encoder, in any of its three places."""
    beside = read_json_if_there(folder / "config_sentence_transformers.json")
    if beside.get("model_type") == "CrossEncoder":
        return beside
    if "sbert_ce_default_activation_function" in config:
        return {"activation_fn": config["sbert_ce_default_activation_function"]}
    return dict(config.get("sentence_transformers") or {})


def _problem_type(
    config: Mapping[str, Any], labels: tuple[str, ...], cross_encoder: Mapping[str, Any]
) -> ProblemType:
    activation = str(cross_encoder.get("activation_fn", "")).rsplit(".", 1)[-1]
    if len(labels) == 1 and activation == "Sigmoid":
        return "multi_label"
    stated = config.get("problem_type")
    if stated is None:
        return "regression" if len(labels) == 1 else "single_label"
    if stated not in _PROBLEM_TYPES:
        raise CheckpointInvalid(
            f"problem_type {stated!r} of config.json is none of {', '.join(_PROBLEM_TYPES)}"
        )
    # The softmax of a single number is always 1, and says nothing.
    alone = len(labels) == 1 and stated == "single_label_classification"
    return "multi_label" if alone else _PROBLEM_TYPES[stated]
