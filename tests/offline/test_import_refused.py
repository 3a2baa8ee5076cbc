"""Ready-made ONNX folders that `encserve import` does not take, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import CheckpointInvalid
from service.store.repository import ModelRepository
from tests.offline.folders import (
    change,
    sentence_transformers_files,
)
from tests.offline.ready_made_folders import edit, encoder, run_import, write_onnx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ready"


def weights_beside(folder: Path) -> None:
    onnx.save(
        onnx.load(folder / "model.onnx"),
        folder / "model.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="model.onnx_data",
    )


def link(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.onnx"
    (folder / "model.onnx").rename(elsewhere)
    (folder / "model.onnx").symlink_to(elsewhere)


def ignore_the_mask(model: Any) -> None:
    """Attention sees what fills the batch up."""
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[place] = "everywhere"
    (segments,) = [entry for entry in model.graph.input if entry.name == "token_type_ids"]
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    model.graph.initializer.append(one)
    ones = helper.make_node("Add", [segments.name, "one"], ["everywhere"])
    model.graph.node.insert(0, ones)


def rename_input(model: Any) -> None:
    for entry in model.graph.input:
        entry.name = entry.name.replace("token_type_ids", "colour")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = name.replace("token_type_ids", "colour")


def narrow_inputs(model: Any) -> None:
    for entry in model.graph.input:
        entry.type.tensor_type.elem_type = TensorProto.INT32


def two_outputs_of_other_names(model: Any) -> None:
    node = model.graph.node[-1]
    for name in ("left", "right"):
        model.graph.node.append(helper.make_node("Identity", [node.output[0]], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    del model.graph.output[0]


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights in another file": (weights_beside, "keeps weights in other files"),
    "a link": (link, "is a link"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "AutoTokenizer"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "no graph": (lambda f: (f / "model.onnx").write_bytes(b"no graph"), "not an ONNX file"),
    "an unknown input": (lambda f: edit(f, rename_input), "colour"),
    "narrow inputs": (lambda f: edit(f, narrow_inputs), "int64"),
    "unknown outputs": (lambda f: edit(f, two_outputs_of_other_names), "feature extraction"),
    "a mask that is ignored": (lambda f: edit(f, ignore_the_mask), "heeds attention_mask"),
    "another pooling": (
        lambda f: sentence_transformers_files(f, pooling="max"),
        "neither mean nor cls",
    ),
    "labels without logits": (
        lambda f: change(f / "config.json", architectures=["BertForSequenceClassification"]),
        "2 labels",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_folder_that_would_give_wrong_answers_is_refused(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    encoder(folder)
    damage(folder)
    with pytest.raises(CheckpointInvalid, match=words):
        run_import(folder)
    assert ModelRepository(folder.parent / "store").names() == []


def test_graph_too_old_to_be_pooled_is_refused(folder: Path) -> None:
    write_onnx(encoder(folder), folder / "model.onnx", "last_hidden_state", opset=12)
    with pytest.raises(CheckpointInvalid, match="opset 12"):
        run_import(folder)


def test_file_outside_of_the_folder_is_refused(folder: Path) -> None:
    encoder(folder)
    (folder / "model.onnx").rename(folder.parent / "model.onnx")
    with pytest.raises(CheckpointInvalid, match="outside"):
        run_import(folder, "--file", "../model.onnx")


def test_folder_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="is no folder"):
        run_import(folder)
