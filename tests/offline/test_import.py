"""`encserve import` of ready-made ONNX folders: they answer as before, or are not taken."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper
from torch import Tensor, nn
from typer.testing import CliRunner

from service import cli
from service.errors import CheckpointInvalid
from service.offline.predict import Predictor
from service.store.files import sha256_of
from service.store.repository import ModelRepository, PublishedModel
from service.store.verification import verify
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ready"


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


def rows(model: PublishedModel, inputs: Sequence[Any]) -> np.ndarray:
    return Predictor(model.path, model.manifest, "fp32").rows(inputs)


def pooled(model: Any, pooling: str) -> Tensor:
    hidden = [answer.last_hidden_state for answer in ask(model, TEXTS)]
    return torch.cat([part.mean(dim=1) if pooling == "mean" else part[:, 0] for part in hidden])


@pytest.mark.parametrize("file", ["model.onnx", "onnx/model.onnx"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_is_added_to_a_graph_of_token_vectors(
    folder: Path, file: str, pooling: str
) -> None:
    reference = encoder(folder, file)
    sentence_transformers_files(folder, "Normalize", pooling=pooling)
    digest = sha256_of(folder / file)
    model = run_import(folder)
    manifest = model.manifest
    assert (manifest.task, manifest.layout, manifest.width) == ("embedding", "padded", 16)
    assert (manifest.pooling, manifest.normalized) == (pooling, True)
    assert (manifest.inputs, manifest.output) == (INPUTS, "embedding")
    assert (manifest.provenance.base, manifest.provenance.base_sha256) == ("ready", digest)
    expected = nn.functional.normalize(pooled(reference, pooling), dim=1).numpy()
    assert rows(model, TEXTS) == pytest.approx(expected, abs=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        assert rows(model, [text])[0] == pytest.approx(row, abs=1e-5)


def test_folder_without_a_word_on_pooling_is_averaged_and_not_scaled(folder: Path) -> None:
    reference = encoder(folder)
    model = run_import(folder)
    assert (model.manifest.pooling, model.manifest.normalized) == ("mean", False)
    assert rows(model, TEXTS) == pytest.approx(pooled(reference, "mean").numpy(), abs=1e-5)


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU"])
def test_dense_step_is_added_to_the_graph(folder: Path, activation: str) -> None:
    from safetensors.torch import save_file

    reference = encoder(folder)
    sentence_transformers_files(folder, "Dense")
    layer = nn.Linear(16, 6, bias=False)
    config = {"in_features": 16, "out_features": 6, "activation_function": activation}
    write(folder / "2_Dense" / "config.json", config)
    save_file({"linear.weight": layer.weight.detach()}, folder / "2_Dense" / "model.safetensors")
    model = run_import(folder)
    with torch.inference_mode():
        expected = getattr(nn, activation)()(layer(pooled(reference, "mean"))).numpy()
    assert model.manifest.width == 6
    assert rows(model, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_vectors_that_the_graph_has_pooled_are_taken(folder: Path) -> None:
    reference = encoder(folder)
    complete = run_import(folder)
    ready = folder.parent / "complete"
    folder.rename(ready)
    (ready / "model.onnx").write_bytes(complete.file("model.onnx").read_bytes())
    sentence_transformers_files(ready, "Normalize", pooling="cls")
    model = run_import(ready)
    assert (model.manifest.pooling, model.manifest.normalized) == (None, True)
    expected = nn.functional.normalize(pooled(reference, "mean"), dim=1).numpy()
    assert rows(model, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_classifier_is_taken_with_its_labels(folder: Path) -> None:
    labels = {"0": "sad", "1": "glad", "2": "mixed"}
    reference = classifier(folder, 3, id2label=labels)
    model = run_import(folder)
    assert model.manifest.labels == ("sad", "glad", "mixed")
    expected = np.concatenate([answer.logits.numpy() for answer in ask(reference, TEXTS)])
    assert rows(model, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_cross_encoder_is_taken_with_its_segments(folder: Path) -> None:
    reference = classifier(folder, 1)
    model = run_import(folder)
    assert model.manifest.pair_separator_id is not None
    expected = np.concatenate([answer.logits.numpy() for answer in ask(reference, PAIRS)])
    assert rows(model, PAIRS) == pytest.approx(expected, abs=1e-5)


def test_vectors_of_another_precision_are_cast(folder: Path) -> None:
    reference = encoder(folder)

    def widen(model: Any) -> None:
        end = model.graph.output[0]
        model.graph.node.append(helper.make_node("Cast", [end.name], ["wide"], to=11))
        end.name, end.type.tensor_type.elem_type = "wide", TensorProto.DOUBLE

    edit(folder, widen)
    assert rows(run_import(folder), TEXTS) == pytest.approx(
        pooled(reference, "mean").numpy(), abs=1e-5
    )


def test_file_of_another_name_is_taken_when_it_is_named(folder: Path) -> None:
    encoder(folder, "onnx/model_O3.onnx")
    with pytest.raises(CheckpointInvalid, match="--file"):
        run_import(folder)
    assert run_import(folder, "--file", "onnx/model_O3.onnx").manifest.width == 16


def test_positions_that_padding_takes_are_not_promised(folder: Path) -> None:
    model = save(folder, T.MPNetModel(T.MPNetConfig(**SIZES, attn_implementation="eager")))
    write_onnx(model, folder / "model.onnx", "last_hidden_state", INPUTS[:2])
    assert run_import(folder).manifest.max_tokens == SIZES["max_position_embeddings"] - 2


def test_more_tokens_than_the_graph_has_positions_are_refused(folder: Path) -> None:
    encoder(folder, max_position_embeddings=200)
    with pytest.raises(CheckpointInvalid, match="--max-tokens"):
        run_import(folder)
    assert run_import(folder, "--max-tokens", "40").manifest.max_tokens == 40


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "model.onnx")


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
