"""Fine-tune, export, prove, publish: with a tiny encoder, through the doors the CLI uses."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from service import cli
from service.errors import ParityFailed
from service.offline import export
from service.offline.checkpoints import Checkpoint
from service.offline.data import Example
from service.offline.export import export_onnx, publish_embedding
from service.offline.heads import EmbeddingModel
from service.offline.parity import BATCH_SIZES, LENGTHS, check_parity, grid
from service.offline.progress import Progress
from service.offline.training.batches import packed_tensors
from service.runtime.session import PackedEncoder, open_session
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.conftest import SENTENCES, tiny_checkpoint

GOOD_AND_BAD = [
    Example(f"{a} {b} {label}", label)
    for label in ("good", "bad")
    for a in ("the", "a", "not", "at")
    for b in ("train", "food", "nine", "leaves")
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(tmp_path)


def test_published_model_says_where_it_comes_from(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "store")
    model = publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES)
    verify(model)
    manifest = model.manifest
    assert (manifest.task, manifest.layout, manifest.width) == ("embedding", "packed", 16)
    assert (manifest.pooling, manifest.normalized, manifest.max_tokens) == ("mean", True, 32)
    assert manifest.provenance.base == "tiny"
    assert {"torch", "onnxruntime"} <= manifest.provenance.libraries.keys()
    parity = manifest.variants["fp32"].parity_max_abs_diff
    assert parity is not None
    assert 0 <= parity < 1e-5


def test_parity_covers_the_whole_grid(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path
) -> None:
    deep = replace(checkpoint.encoder.config, max_positions=max(LENGTHS))
    model = EmbeddingModel(type(checkpoint.encoder)(deep), "mean", normalize=True).eval()
    export_onnx(model, tmp_path / "model.onnx")
    report = check_parity(model, tmp_path / "model.onnx", quiet, "tiny")
    assert report.cases == len(BATCH_SIZES) * (len(LENGTHS) + 1)
    assert report.max_abs_diff < 1e-5


def test_grid_has_every_size_with_every_length_and_mixed_ones() -> None:
    shapes = [tuple(map(len, texts)) for texts in grid(max(LENGTHS), 30, None)]
    alike = {shape for shape in shapes if len(set(shape)) == 1}
    assert {(length,) * size for size in BATCH_SIZES for length in LENGTHS} == alike
    # Of two texts the lengths may be the same by chance.
    assert {len(shape) for shape in shapes if len(set(shape)) > 1} >= {
        size for size in BATCH_SIZES if size > 2
    }
    assert [len(text) for text in grid(max(LENGTHS) + 5, 30, None)[-1]] == [max(LENGTHS) + 5]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_exported_graph_takes_any_number_of_texts_and_lengths(
    checkpoint: Checkpoint, tmp_path: Path, pooling: Any
) -> None:
    model = EmbeddingModel(checkpoint.encoder, pooling, normalize=False).eval()
    export_onnx(model, tmp_path / "model.onnx")
    encoder = PackedEncoder(open_session(tmp_path / "model.onnx"), "embedding", 16)
    rng = np.random.default_rng(0)
    for lengths in ([1], [32], [1, 1, 1], [3, 1, 32, 8], [2] * 40):
        texts = [rng.integers(20, size=length).tolist() for length in lengths]
        with torch.inference_mode():
            expected = model(*packed_tensors(texts)).numpy()
        assert encoder(texts) == pytest.approx(expected, abs=1e-5)


def test_parity_failure_publishes_nothing(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES)

    def export_then_change_the_module(model: EmbeddingModel, path: Path, **options: Any) -> None:
        export_onnx(model, path, **options)
        with torch.no_grad():
            model.encoder.blocks[1].feed_forward.contract.bias[0] += 0.01  # type: ignore[union-attr,index,operator]  # ModuleList items are untyped

    monkeypatch.setattr(export, "export_onnx", export_then_change_the_module)
    with pytest.raises(ParityFailed, match="nothing was published"):
        publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES)
    assert repository.versions("tiny") == ["1"]
    assert repository.resolve("tiny").manifest.version == "1"
    left = sorted(path.name for path in (repository.root / "tiny").iterdir())
    assert left == [".lock", "1", "current"]


def test_graph_that_answers_nan_fails_parity(
    checkpoint: Checkpoint, quiet: Progress, tmp_path: Path
) -> None:
    repository = ModelRepository(tmp_path / "store")
    with torch.no_grad():
        checkpoint.encoder.embeddings.norm.bias[0] = float("nan")
    with pytest.raises(Exception, match="finite"):
        publish_embedding(repository, "tiny", checkpoint, quiet, SENTENCES)
    assert repository.names() == []


def save_checkpoint(folder: Path) -> None:
    """The files of a hub repository: weights, config and tokenizer of a tiny BERT."""
    import transformers

    from tests.conftest import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_own_file_becomes_a_published_model_by_one_command(tmp_path: Path) -> None:
    base, store, data = tmp_path / "base", tmp_path / "store", tmp_path / "mine.csv"
    base.mkdir()
    save_checkpoint(base)
    rows = [f"{example.text},{example.label}" for example in GOOD_AND_BAD]
    data.write_text("\n".join(["review,verdict", *rows]))
    run(
        *["finetune", "mine", "--data", str(data), "--base", str(base)],
        *["--text-column", "review", "--label-column", "verdict"],
        *["--epochs", "2", "--model-store", str(store)],
    )
    manifest = ModelRepository(store).resolve("mine").manifest
    assert (manifest.task, manifest.labels) == ("classification", ("bad", "good"))
    assert manifest.provenance.data_sha256
    assert "dev_macro_f1" in manifest.metrics
    assert "mine" in run("models", "--model-store", str(store))


def _tree_entry(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


class _Hub(BaseHTTPRequestHandler):
    """As much of the model hub as a download asks of it."""

    folder: Path
    commit = "c" * 40

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        files = sorted(file for file in self.folder.iterdir())
        if path.startswith("/api/models/org/tiny/tree/"):
            self._answer_json([_tree_entry(file) for file in files])
        elif path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": file.name} for file in files]
            self._answer_json({"id": "org/tiny", "sha": self.commit, "siblings": siblings})
        elif (file := self.folder / path.rsplit("/", 1)[-1]).is_file():
            self._answer(file.read_bytes())
        else:
            self.send_error(404)

    def _answer_json(self, value: object) -> None:
        self._answer(json.dumps(value).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "hub"
    folder.mkdir()
    save_checkpoint(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_model_of_a_hub_is_downloaded_and_exported(hub: str, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    store = tmp_path / "store"
    command = [sys.executable, "-m", "service.cli", "export", "from-hub", "--base", "org/tiny"]
    subprocess.run(
        [*command, "--model-store", str(store)],
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache")},
        check=True,
        timeout=120,
    )
    assert ModelRepository(store).resolve("from-hub").manifest.provenance.base == "org/tiny"
