"""Folders of ONNX as exporters of the hub write them, and their import."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from torch import Tensor, nn
from typer.testing import CliRunner

from service import cli
from service.store.repository import ModelRepository, PublishedModel
from service.store.verification import verify
from tests.offline.folders import (
    bert,
    save,
)

T: Any = transformers
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Answer(nn.Module):
    """One of the model's outputs, as exporters of the hub write it."""

    def __init__(self, model: Any, output: str, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.output, self.inputs = model, output, inputs

    def forward(self, *arrays: Tensor) -> Tensor:
        named = dict(zip(self.inputs, arrays, strict=True))
        answer: Tensor = self.model(**named)[self.output]
        return answer


def write_onnx(
    model: Any, path: Path, output: str, inputs: Sequence[str] = INPUTS, opset: int = 18
) -> None:
    path.parent.mkdir(exist_ok=True)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    arrays = (ids, (ids > 0).long(), torch.zeros_like(ids))[: len(inputs)]
    axes = {name: {0: "batch", 1: "sequence"} for name in (*inputs, output)}
    if output == "logits":
        axes[output] = {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Answer(model, output, inputs).eval(),
            arrays,
            str(path),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


def encoder(folder: Path, file: str = "model.onnx", **changes: Any) -> Any:
    model = save(folder, T.BertModel(bert(attn_implementation="eager")), **changes)
    write_onnx(model, folder / file, "last_hidden_state")
    (folder / "model.safetensors").unlink()
    return model


def classifier(folder: Path, labels: int, **changes: Any) -> Any:
    config = bert(num_labels=labels, attn_implementation="eager")
    model = save(folder, T.BertForSequenceClassification(config), **changes)
    write_onnx(model, folder / "model.onnx", "logits")
    return model


def run_import(folder: Path, *options: str) -> PublishedModel:
    store = folder.parent / "store"
    command = ["import", "it", str(folder), "--model-store", str(store), *options]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = ModelRepository(store).resolve("it")
    verify(model)
    return model


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "model.onnx")
