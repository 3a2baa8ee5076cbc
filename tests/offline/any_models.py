"""Models of many families, of random weights, and their export by the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from typer.testing import CliRunner

from service import cli
from service.offline.predict import Predictor
from service.store.repository import ModelRepository, PublishedModel
from service.store.verification import verify
from tests.offline.folders import DISTILBERT_SIZES, SIZES, bert, write

T: Any = transformers  # its configurations take more than their signatures say


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


def cross_encoder(**changes: Any) -> Any:
    return T.BertForSequenceClassification(bert(num_labels=1, **changes))


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
