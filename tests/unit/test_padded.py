"""The padded layout, from token ids to answers, with a tiny real ONNX file."""

import asyncio
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from service.errors import ModelCorrupt
from service.loading import load_engines
from service.metrics import Metrics
from service.runtime.padding import pad
from service.runtime.session import PackedEncoder, PaddedEncoder, open_session
from service.settings import load_settings
from service.store.manifest import ManifestFields, Provenance, Variant
from service.store.repository import ModelRepository
from tests.conftest import tiny_tokenizer

WIDTH = 4
TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=12), min_size=1, max_size=9)


def mean_of_token_vectors(path: Path, *inputs: str) -> Path:
    """ONNX that averages a table's rows where the mask is 1."""
    rows = tiny_tokenizer().get_vocab_size()
    table = np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"]) for name in inputs],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    repository = ModelRepository(tmp_path / "store")
    with repository.draft("mean") as draft:
        mean_of_token_vectors(draft.path / "model.onnx", "input_ids", "attention_mask")
        tiny_tokenizer().save(str(draft.path / "tokenizer.json"))
        draft.publish(
            ManifestFields(
                task="embedding",
                layout="padded",
                inputs=("input_ids", "attention_mask"),
                output="embedding",
                width=WIDTH,
                pooling="mean",
                max_tokens=32,
                variants={"fp32": Variant(file="model.onnx")},
                default_variant="fp32",
                provenance=Provenance(base="tiny", base_sha256="0" * 64, libraries={}),
            )
        )
    return repository.root


@given(TEXTS)
def test_mask_tells_tokens_from_filling(texts: list[list[int]]) -> None:
    arrays = pad(texts)
    mask = arrays["attention_mask"]
    assert mask.sum(axis=1).tolist() == [len(text) for text in texts]
    assert [
        row[: len(text)].tolist() for row, text in zip(arrays["input_ids"], texts, strict=True)
    ] == texts
    assert not arrays["input_ids"][mask == 0].any()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("texts", [[], [[]], [[1], []]])
def test_nothing_to_pad_is_an_error(texts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one text"):
        pad(texts)


def test_padded_model_is_served_and_neighbours_change_nothing(store: Path) -> None:
    words = "the train leaves at nine and the food is good"
    texts = [f"{words[: 3 + 7 * turn % 40]}" for turn in range(40)]

    async def ask() -> tuple[np.ndarray, np.ndarray]:
        settings = load_settings(model_store=store, cache_bytes=0)
        engines = load_engines(settings, Metrics(CollectorRegistry()))
        engines.start()
        try:
            engine = engines.get("mean")
            together = (await engine.embed(texts)).rows
            alone = [(await engine.embed([text])).rows[0] for text in texts]
            return together, np.stack(alone)
        finally:
            await engines.close()

    together, alone = asyncio.run(ask())
    assert together == pytest.approx(alone, abs=1e-6)
    assert len(np.unique(together.round(4), axis=0)) > 5


def test_inputs_of_another_layout_are_refused(tmp_path: Path) -> None:
    padded = open_session(
        mean_of_token_vectors(tmp_path / "a.onnx", "input_ids", "attention_mask", "token_type_ids")
    )
    assert PaddedEncoder(padded, "embedding", WIDTH)([[1, 2], [3]]).shape == (2, WIDTH)
    with pytest.raises(ModelCorrupt, match="inputs"):
        PackedEncoder(padded, "embedding", WIDTH)
    odd = open_session(
        mean_of_token_vectors(tmp_path / "b.onnx", "input_ids", "attention_mask", "colour")
    )
    with pytest.raises(ModelCorrupt, match="colour"):
        PaddedEncoder(odd, "embedding", WIDTH)
