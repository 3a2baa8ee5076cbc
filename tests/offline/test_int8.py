"""The int8 variant: what it computes, that neighbours do not change it, and what admits it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid
from service.offline import variants
from service.offline.checkpoints import Checkpoint
from service.offline.data import Example, ScoredPair
from service.offline.encoder import Encoder
from service.offline.export import MODEL_FILE, export_onnx, publish_embedding
from service.offline.gate import (
    Encode,
    Verdict,
    compare_embeddings,
    compare_labels,
    compare_on_examples,
    compare_on_pairs,
)
from service.offline.heads import ClassificationModel, EmbeddingModel, Pooling, TaskModel
from service.offline.progress import Progress
from service.offline.quantize import WEIGHT_MAX, quantize
from service.offline.reading import read_scored_pairs
from service.runtime.session import PackedEncoder, open_session
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.conftest import SENTENCES, only_fp32, tiny_checkpoint

RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(20, size=RNG.integers(1, 32)).tolist() for _ in range(64)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(tmp_path)


def both(model: TaskModel, folder: Path) -> tuple[PackedEncoder, PackedEncoder]:
    export_onnx(model, folder / "model.onnx")
    quantize(folder / "model.onnx", folder / "int8.onnx", TEXTS)
    fp32, int8 = (
        PackedEncoder(open_session(folder / name), model.output_name, model.width)
        for name in ("model.onnx", "int8.onnx")
    )
    return fp32, int8


def rows_of(values: Sequence[Sequence[float]]) -> Encode:
    return lambda texts: np.array(values, dtype=np.float32)


def admit(fp32: Encode, int8: Encode) -> Verdict:
    return Verdict({"mean_cosine": 1.0}, ())


def measured(monkeypatch: pytest.MonkeyPatch, *, fp32: float, int8: float) -> None:
    """Which of two tiny models is faster is a matter of luck."""
    speeds = {MODEL_FILE: fp32, variants.INT8_FILE: int8}
    monkeypatch.setattr(variants, "_speeds", lambda encoders, texts: speeds)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_int8_points_where_fp32_points(
    checkpoint: Checkpoint, tmp_path: Path, pooling: Pooling, layers: int
) -> None:
    config = replace(checkpoint.encoder.config, layers=layers)
    model = EmbeddingModel(Encoder(config), pooling, normalize=True).eval()
    fp32, int8 = both(model, tmp_path)
    cosines = (fp32(TEXTS) * int8(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99
    assert np.abs(fp32(TEXTS) - int8(TEXTS)).max() > 1e-5


def test_layer_that_says_nothing_can_be_quantised(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for parameter in checkpoint.encoder.blocks[0].parameters():
        torch.nn.init.zeros_(parameter)
    model = EmbeddingModel(checkpoint.encoder, "mean", normalize=True).eval()
    _, int8 = both(model, tmp_path)
    assert np.isfinite(int8(TEXTS)).all()


def test_int8_answers_alike_alone_and_in_any_company(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model = EmbeddingModel(checkpoint.encoder, "mean", normalize=True).eval()
    _, int8 = both(model, tmp_path)
    alone = np.concatenate([int8([text]) for text in TEXTS])
    assert int8(TEXTS) == pytest.approx(alone, abs=1e-5)
    assert int8(TEXTS[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_encoder_is_quantised_and_the_head_is_not(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = ClassificationModel(checkpoint.encoder, "mean", labels=3).eval()
    both(model, tmp_path)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = [node.op_type for node in graph.node]
    layers = checkpoint.encoder.config.layers
    assert kinds.count("MatMulIntegerToFloat") == 6 * layers
    # Query, key and value read one quantised activation.
    assert kinds.count("QuantizeLinear") == 4 * layers
    assert kinds.count("Gemm") == 1
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    int8 = [array for array in weights.values() if array.dtype == np.int8]
    linear = [
        array for name, array in weights.items() if name.endswith("int8") and "blocks" in name
    ]
    assert len(int8) == 6 * layers + 2
    assert max(np.abs(array.astype(int)).max() for array in linear) == WEIGHT_MAX


def test_faster_variant_that_passes_is_the_one_served(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, fp32=100, int8=300)
    repository = ModelRepository(tmp_path / "store")
    model = publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES, admit)
    verify(model)
    assert model.manifest.default_variant == "int8"
    quality = model.manifest.variants["int8"].quality
    assert quality.keys() == {"mean_cosine", "token_mean_cosine"}
    assert quality["mean_cosine"] == 1.0
    assert model.manifest.variants["int8"].tokens_per_s == 300
    assert model.manifest.variants["fp32"].tokens_per_s == 100


def test_variant_that_fails_leaves_no_file_behind(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "store")
    model = publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES, only_fp32)
    assert list(model.manifest.variants) == ["fp32"]
    assert sorted(model.manifest.files) == [
        *("golden.json", "model.onnx", "reference.json", "tokenizer.json")
    ]


def test_slower_variant_is_not_published_however_good(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, fp32=300, int8=100)
    repository = ModelRepository(tmp_path / "store")
    model = publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES, admit)
    assert list(model.manifest.variants) == ["fp32"]


def test_vectors_that_turn_away_are_refused() -> None:
    straight = rows_of([[1, 0], [0.8, 0.6], [0, 1], [-1, 0.2]])
    bent = rows_of([[1, 0.4], [0.8, 0.2], [0.3, 1], [-1, 0.6]])
    assert compare_embeddings(straight, straight, "abcd").admitted
    verdict = compare_embeddings(straight, bent, "abcd")
    assert any("mean_cosine" in reason for reason in verdict.missed)


def test_order_of_similarities_counts_beside_the_cosine() -> None:
    near = rows_of([[1, 0.00], [1, 0.01], [1, 0.03], [1, 0.06]])
    other = rows_of([[1, 0.06], [1, 0.01], [1, 0.00], [1, 0.02]])
    verdict = compare_embeddings(near, other, "abcd")
    assert verdict.quality["mean_cosine"] > 0.99
    assert not verdict.admitted


def test_vectors_without_any_order_are_refused() -> None:
    same = rows_of([[1, 0], [1, 0], [1, 0]])
    assert not compare_embeddings(same, same, "abc").admitted


def test_three_labels_in_a_hundred_may_differ_and_four_not() -> None:
    fp32 = rows_of([[1, 0.99]] * 100)
    assert compare_labels(fp32, rows_of([[1, 0.99]] * 97 + [[0.99, 1]] * 3), "x").admitted
    assert not compare_labels(fp32, rows_of([[1, 0.99]] * 96 + [[0.99, 1]] * 4), "x").admitted


def test_one_label_for_all_is_no_feat() -> None:
    fp32, constant = rows_of([[3, 0], [1, 0.9], [0.1, 0]]), rows_of([[1, 0]] * 3)
    assert compare_labels(fp32, constant, "abc").quality["label_agreement"] == 1
    assert not compare_labels(fp32, constant, "abc").admitted


def test_labelled_texts_decide_by_accuracy() -> None:
    examples = [Example("x", "no")] * 200
    perfect, one_wrong = rows_of([[1, 0]] * 200), rows_of([[1, 0]] * 199 + [[0, 1]])
    two_wrong = rows_of([[1, 0]] * 198 + [[0, 1]] * 2)
    labels = ("no", "yes")
    assert compare_on_examples(perfect, one_wrong, examples, labels).admitted
    assert not compare_on_examples(perfect, two_wrong, examples, labels).admitted
    assert compare_on_examples(two_wrong, perfect, examples, labels).admitted


def test_scored_pairs_decide_by_rank() -> None:
    pairs = [ScoredPair("a", "b", score) for score in (0.0, 1.0, 2.0, 3.0)]
    ranked = rows_of([[1, 0.5], [1, 0.4], [1, 0.3], [1, 0.0]])
    swapped = rows_of([[1, 0.5], [1, 0.3], [1, 0.4], [1, 0.0]])
    axis = np.array([[1, 0]] * 4, dtype=np.float32)

    def encode_with(firsts: Encode) -> Encode:
        return lambda texts: firsts(texts) if texts[0] == "a" else axis

    fp32 = encode_with(ranked)
    assert compare_on_pairs(fp32, fp32, pairs).quality["sts_spearman_int8"] == pytest.approx(1)
    assert not compare_on_pairs(fp32, encode_with(swapped), pairs).admitted


def test_pairs_without_a_number_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("sentence1\tsentence2\tscore\na\tb\t4.5\n")
    assert read_scored_pairs(file) == [ScoredPair("a", "b", 4.5)]
    file.write_text("sentence1\tsentence2\tscore\na\tb\thigh\n")
    with pytest.raises(DatasetInvalid):
        read_scored_pairs(file)
    file.write_text("sentence1\tsentence2\tscore\na\tb\tnan\n")
    with pytest.raises(DatasetInvalid):
        read_scored_pairs(file)
    result = CliRunner().invoke(cli.app, ["export", "tiny", "--int8-data", str(file)])
    assert isinstance(result.exception, DatasetInvalid)
