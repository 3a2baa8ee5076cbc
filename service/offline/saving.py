"""Our encoder as a folder in BERT's own form, which every tool of the field reads."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer

from service.offline.encoder import Encoder
from service.offline.heads import Pooling
from service.offline.wordpiece import CLASS, MASK, PADDING, SEPARATOR, UNKNOWN

_BERT_NAMES = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "blocks.": "encoder.layer.",
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_OURS = re.compile("|".join(map(re.escape, sorted(_BERT_NAMES, key=len, reverse=True))))


def save_checkpoint(
    folder: Path,
    encoder: Encoder,
    tokenizer: Tokenizer,
    pooling: Pooling,
    max_tokens: int,
    *,
    dropout: float,
) -> None:
    """Write weights, configuration, tokenizer and pooling into `folder`, which is made.

    `--base` and `--from` take the folder, as do transformers and sentence-transformers.

    Args:
        dropout: for those who train it on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        _OURS.sub(lambda found: _BERT_NAMES[found.group()], name): tensor.detach().contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "config.json", _config(encoder, tokenizer, dropout))
    _write(folder / "tokenizer_config.json", _tokenizer_config(max_tokens))
    _write(folder / "modules.json", _modules())
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens})
    pooling_folder = folder / "1_Pooling"
    pooling_folder.mkdir(exist_ok=True)
    _write(pooling_folder / "config.json", _pooling_config(encoder, pooling))


def _config(encoder: Encoder, tokenizer: Tokenizer, dropout: float) -> dict[str, Any]:
    config = encoder.config
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.segments,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.02,
        "pad_token_id": tokenizer.token_to_id(PADDING),
    }


def _tokenizer_config(max_tokens: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "pad_token": PADDING,
        "unk_token": UNKNOWN,
        "cls_token": CLASS,
        "sep_token": SEPARATOR,
        "mask_token": MASK,
    }


def _modules() -> list[dict[str, Any]]:
    kinds = ("Transformer", "Pooling", "Normalize")
    return [
        {
            "idx": index,
            "name": str(index),
            "path": "" if kind == "Transformer" else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]


def _pooling_config(encoder: Encoder, pooling: Pooling) -> dict[str, Any]:
    return {
        "word_embedding_dimension": encoder.config.hidden_size,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
