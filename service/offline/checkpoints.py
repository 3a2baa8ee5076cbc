"""BERT-family checkpoints in safetensors: find, check, and load them into our own encoder."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from service.errors import CheckpointInvalid
from service.offline.checkpoint_heads import Head, load_head
from service.offline.encoder import Encoder, EncoderConfig
from service.offline.heads import Pooling, Projection
from service.offline.label_files import classifier_use, is_classifier
from service.offline.model_folder import (
    CONFIG_FILE,
    DEFAULT_BASE,
    find_folder,
    longest_input,
    marks_segments,
    read_json,
    tokenizer_of,
)
from service.offline.sentence_files import WEIGHTS_FILE, EmbeddingUse, embedding_use
from service.store.files import sha256_of

# The published model's digest: the package that carries it is not the model's publisher.
DEFAULT_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

__all__ = ["DEFAULT_BASE", "Checkpoint", "is_packed", "load_checkpoint", "load_encoder"]

_BERT_NAMES = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer.": "blocks.",
    "attention.self.": "attention.",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.expand",
    "output.dense": "feed_forward.contract",
    "output.LayerNorm": "feed_forward_norm",
}
_DISTILBERT_NAMES = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "transformer.layer.": "blocks.",
    "attention.q_lin": "attention.query",
    "attention.k_lin": "attention.key",
    "attention.v_lin": "attention.value",
    "attention.out_lin": "attention.output",
    "sa_layer_norm": "attention_norm",
    "ffn.lin1": "feed_forward.expand",
    "ffn.lin2": "feed_forward.contract",
    "output_layer_norm": "feed_forward_norm",
}


@dataclass(frozen=True)
class Checkpoint:
    """A base model: the encoder with its weights, and how its authors use it.

    projection: behind the pooling of an embedding. prompts, default_prompt: as in a manifest.
    head: of a sequence classifier; then pooling and what belongs to it are the head's.
    """

    name: str
    sha256: str
    encoder: Encoder
    tokenizer_file: Path
    pooling: Pooling
    normalize: bool
    max_tokens: int
    projection: Projection | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    head: Head | None = None


@dataclass(frozen=True)
class _Family:
    """How one layout names its sizes and tensors."""

    prefix: str
    names: dict[str, str]
    config: Callable[[dict[str, Any]], EncoderConfig]
    # Positions the checkpoint's table has in front of the first token's.
    position_offset: Callable[[dict[str, Any]], int]


def is_packed(config: dict[str, Any]) -> bool:
    """True where our own encoder computes what a model of this `config.json` does."""
    return config.get("model_type") in _FAMILIES and not _other_functions(config)


def load_checkpoint(
    base: str = DEFAULT_BASE, *, pairs: bool | None = None, max_tokens: int | None = None
) -> Checkpoint:
    """The default base, a local folder, or a Hugging Face id (downloaded where there is a network).

    Args:
        pairs: whether a sequence classifier reads pairs; None: as its files let one guess.
        max_tokens: cut longer texts; None: as the authors do.

    Raises:
        CheckpointInvalid: files are missing, the default's digest differs, or the layout is not
            of the BERT family.
    """
    folder = find_folder(base)
    weights_file = folder / WEIGHTS_FILE
    sha256 = _checked_digest(base, weights_file)
    tokenizer_file = tokenizer_of(folder)
    config = read_json(folder / CONFIG_FILE)
    tensors = _tensors(weights_file)
    encoder = _encoder(tensors, config)
    if not marks_segments(tokenizer_file):
        encoder = _with_one_segment(encoder)
    head = None
    if is_classifier(folder, config):
        head = load_head(tensors, config["model_type"], classifier_use(folder, config, pairs))
    use = EmbeddingUse("cls", normalize=False) if head else embedding_use(folder)
    return Checkpoint(
        name=base,
        sha256=sha256,
        encoder=encoder,
        tokenizer_file=tokenizer_file,
        pooling=use.pooling,
        normalize=use.normalize,
        max_tokens=longest_input(folder, encoder.config.max_positions, max_tokens),
        projection=use.projection,
        prompts=use.prompts,
        default_prompt=use.default_prompt,
        head=head,
    )


def load_encoder(weights_file: Path, config: dict[str, Any]) -> Encoder:
    """Our encoder with a checkpoint's weights; `config` is its parsed `config.json`.

    Raises:
        CheckpointInvalid: unknown layout, or a tensor is missing or of another shape.
    """
    return _encoder(_tensors(weights_file), config)


def _checked_digest(base: str, weights_file: Path) -> str:
    if not weights_file.is_file():
        raise CheckpointInvalid(
            f"{weights_file.parent} holds no {WEIGHTS_FILE}: pickled weights are not read"
        )
    sha256 = sha256_of(weights_file)
    if base == DEFAULT_BASE and sha256 != DEFAULT_BASE_SHA256:
        raise CheckpointInvalid(
            f"{WEIGHTS_FILE} of {base} has sha256 {sha256}, not {DEFAULT_BASE_SHA256}"
        )
    return sha256


def _tensors(weights_file: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights_file)
    except SafetensorError as error:
        raise CheckpointInvalid(f"{weights_file} is not a safetensors file: {error}") from error


def _encoder(tensors: dict[str, Tensor], config: dict[str, Any]) -> Encoder:
    family = _FAMILIES.get(config.get("model_type", ""))
    if family is None:
        raise CheckpointInvalid(
            f"model_type {config.get('model_type')!r} is not one of {', '.join(_FAMILIES)}"
        )
    if other := _other_functions(config):
        raise CheckpointInvalid(other)
    encoder_config = family.config(config)
    weights = {_rename(name, family): tensor.float() for name, tensor in tensors.items()}
    position = "embeddings.position.weight"
    if position in weights:
        weights[position] = weights[position][family.position_offset(config) :]
    # DistilBERT has no segments: one row of zeros says the same.
    weights.setdefault("embeddings.segment.weight", torch.zeros(1, encoder_config.hidden_size))
    return _with_weights(Encoder(encoder_config), weights)


def _with_one_segment(encoder: Encoder) -> Encoder:
    name = "embeddings.segment.weight"
    weights = encoder.state_dict()
    config = replace(encoder.config, segments=1)
    return _with_weights(Encoder(config), weights | {name: weights[name][:1]})


def _with_weights(encoder: Encoder, weights: dict[str, Tensor]) -> Encoder:
    wanted = encoder.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    if missing:
        raise CheckpointInvalid(f"the checkpoint lacks {len(missing)} tensors, first {missing[0]}")
    try:
        encoder.load_state_dict({name: weights[name] for name in wanted})
    except RuntimeError as error:
        raise CheckpointInvalid(
            f"the checkpoint's shapes contradict its config: {error}"
        ) from error
    return encoder.eval()


def _rename(name: str, family: _Family) -> str:
    name = name.removeprefix(family.prefix)
    for theirs, ours in family.names.items():
        name = name.replace(theirs, ours)
    return name


def _other_functions(config: dict[str, Any]) -> str:
    """What a model computes otherwise than our encoder; empty if nothing."""
    activation = config.get("hidden_act", config.get("activation"))
    if activation != "gelu":
        return f"activation {activation!r} is not 'gelu'"
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        return f"position_embedding_type {positions!r} is not 'absolute'"
    return "it is a decoder" if config.get("is_decoder") else ""


def _bert_config(config: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(
        vocabulary_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        feed_forward_size=config["intermediate_size"],
        max_positions=config["max_position_embeddings"],
        segments=config["type_vocab_size"],
        layer_norm_eps=config["layer_norm_eps"],
        dropout=config["hidden_dropout_prob"],
    )


def _roberta_config(config: dict[str, Any]) -> EncoderConfig:
    offset = _roberta_offset(config)
    return _bert_config(
        config | {"max_position_embeddings": config["max_position_embeddings"] - offset}
    )


def _roberta_offset(config: dict[str, Any]) -> int:
    """RoBERTa counts positions from the padding id's next."""
    return int(config["pad_token_id"]) + 1


def _distilbert_config(config: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(
        vocabulary_size=config["vocab_size"],
        hidden_size=config["dim"],
        layers=config["n_layers"],
        heads=config["n_heads"],
        feed_forward_size=config["hidden_dim"],
        max_positions=config["max_position_embeddings"],
        segments=1,
        dropout=config["dropout"],
    )


_FAMILIES = {
    "bert": _Family("bert.", _BERT_NAMES, _bert_config, lambda _: 0),
    "roberta": _Family("roberta.", _BERT_NAMES, _roberta_config, _roberta_offset),
    "xlm-roberta": _Family("roberta.", _BERT_NAMES, _roberta_config, _roberta_offset),
    "distilbert": _Family("distilbert.", _DISTILBERT_NAMES, _distilbert_config, lambda _: 0),
}
