"""`encserve import` of ready-made ONNX folders: they answer as before, or are not taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from service.errors import CheckpointInvalid
from service.offline.predict import Predictor
from service.store.files import sha256_of
from service.store.repository import PublishedModel
from tests.offline.folders import (
    PAIRS,
    SIZES,
    TEXTS,
    ask,
    save,
    sentence_transformers_files,
    write,
)
from tests.offline.ready_made_folders import (
    INPUTS,
    T,
    classifier,
    edit,
    encoder,
    run_import,
    write_onnx,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ready"


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
