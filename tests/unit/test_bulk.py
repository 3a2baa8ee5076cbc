"""`encserve bulk`: rows of files through a tiny model, in order, once each, and the failed ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from service import cli
from service.bulk.encoding import TextEncoder, batches
from service.errors import InvalidField
from service.runtime.outputs import FloatArray, unit_length
from service.runtime.session import ENCODERS, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import ModelRepository
from tests.unit.bulk_jobs import SETTINGS, TEXTS, Job, failed, read_table, vectors, write


def directly(store: Path, texts: Sequence[str]) -> FloatArray:
    """Each text alone through the session that serves."""
    model = ModelRepository(store).resolve("embedding")
    manifest = model.manifest
    encoder = ENCODERS[manifest.layout](
        open_session(model.file("model.onnx")), manifest.output, manifest.width
    )
    tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens)
    return unit_length(
        np.concatenate([encoder([ids.token_ids]) for ids in tokenizer.encode(texts)])
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_every_row_comes_out_once_in_order_with_its_vector_and_its_other_columns(
    tmp_path: Path, tiny_store: Path, job: Job, suffix: str
) -> None:
    summary = job(write(tmp_path / f"in{suffix}", TEXTS), part_rows=8)
    table = read_table(tmp_path / "out")
    assert [int(number) for number in table.column("number").to_pylist()] == list(range(50))
    assert table.column("text").to_pylist() == TEXTS
    assert np.allclose(vectors(table), directly(tiny_store, TEXTS), atol=1e-5)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    assert (summary.rows_in, summary.rows_out, summary.failed, summary.parts) == (50, 50, 0, 7)
    written = json.loads((tmp_path / "out" / "_summary.json").read_text())
    assert written["computed"] == 50
    assert written["tokens"] > 50


def test_output_says_which_model_made_it(tmp_path: Path, tiny_store: Path, job: Job) -> None:
    job(write(tmp_path / "in.csv", TEXTS[:3]))
    said = parquet.read_schema(tmp_path / "out" / "part-00000.parquet").metadata
    manifest = ModelRepository(tiny_store).resolve("embedding").manifest
    assert said[b"encserve.model"] == b"embedding"
    assert said[b"encserve.version"] == b"1"
    assert said[b"encserve.digest"] == f"sha256:{manifest.files['model.onnx'].sha256}".encode()


def test_classifier_adds_label_score_and_all_scores(tmp_path: Path, job: Job) -> None:
    job(write(tmp_path / "in.jsonl", TEXTS), "sentiment")
    table = read_table(tmp_path / "out")
    scores = vectors(table, "scores")
    labels = json.loads(table.schema.metadata[b"encserve.labels"])
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(table.column("score").to_numpy(), scores.max(axis=1))
    assert table.column("label").to_pylist() == [labels[row.argmax()] for row in scores]


def test_columns_that_are_there_already_are_not_overwritten(tmp_path: Path, job: Job) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,label\nthe food,good\n")
    with pytest.raises(InvalidField, match="--prefix"):
        job(source, "sentiment")
    job(source, "sentiment", out=tmp_path / "other", prefix="model_")
    names = read_table(tmp_path / "other").column_names
    assert names == ["text", "label", "model_label", "model_score", "model_scores"]


def test_quoted_csv_keeps_lines_separators_and_quotes_inside_a_text(
    tmp_path: Path, job: Job
) -> None:
    texts = ['the "food", is\r\ngood', "a\n\nbad train", "007", "the leaves"] * 3
    job(write(tmp_path / "in.csv", texts), part_rows=2)
    table = read_table(tmp_path / "out")
    assert table.column("text").to_pylist() == texts
    # No type is guessed: what looks like a number stays what it was.
    assert table.column("number").to_pylist() == [str(number) for number in range(12)]


def test_json_lines_may_lack_names_and_have_others_and_other_types(
    tmp_path: Path, job: Job
) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "the food", "size": 1, "tags": ["a"], "mixed": 1, "far": 2**60},
        {"text": "a train", "size": 2.5, "good": True, "mixed": "b"},
        {"text": "the leaves", "tags": {"b": None}, "late": "x"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n\n".join(map(json.dumps, rows)))  # without an end to the last line
    job(source, part_rows=1)
    table = read_table(tmp_path / "out").drop_columns(["embedding", "text"])
    assert table.to_pydict() == {
        "size": [1.0, 2.5, None],
        "tags": ['["a"]', None, '{"b":null}'],
        "mixed": ["1", '"b"', None],
        "far": [2**60, None, None],
        "good": [None, True, None],
        "late": [None, None, "x"],
    }


@pytest.mark.parametrize(
    ("name", "content", "faults"),
    [
        (
            "in.jsonl",
            b'{"text": ""}\n{"text": 7}\n{"n": 1}\n{bad\n[]\n{"text": "\xff"}\n{"text": "ok"}\n',
            ["blank_text", "not_a_text", "not_a_text", *["invalid_json"] * 3],
        ),
        (
            "in.csv",
            b'text,n\n" ",1\nsecret\nsecret,1,2\n"sec"ret,1\nsecret\xff,1\n"\x01",1\nok,1,\n',
            ["blank_text", *["wrong_fields"] * 2, "invalid_csv", "not_utf8", "blank_text"],
        ),
        (
            "in.tsv",
            b"text\tn\n\t\nsecret\nsecret\t1\t2\nsecret\xff\t1\nok\t1\n",
            ["blank_text", *["wrong_fields"] * 2, "not_utf8"],
        ),
    ],
)
@pytest.mark.parametrize("part_rows", [1, 100])
def test_rows_that_cannot_be_encoded_are_listed_with_their_reason_and_without_their_text(
    tmp_path: Path, job: Job, name: str, content: bytes, faults: list[str], part_rows: int
) -> None:
    (tmp_path / name).write_bytes(content)
    summary = job(tmp_path / name, column="text", part_rows=part_rows)
    assert failed(tmp_path / "out") == list(enumerate(faults, start=1))
    assert read_table(tmp_path / "out").column("text").to_pylist() == ["ok"]
    assert summary.rows_in == len(faults) + 1
    assert (summary.rows_out, summary.failed) == (1, len(faults))
    assert sum(summary.failed_by_code.values()) == len(faults)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.json*"))
    assert b"secret" not in kept


def test_texts_that_are_too_long_are_cut_or_refused_as_asked(tmp_path: Path, job: Job) -> None:
    texts = ["the food", "a bad train " * 50]
    assert job(write(tmp_path / "in.parquet", texts)).truncated == 1
    job(tmp_path / "in.parquet", out=tmp_path / "strict", too_long="refuse")
    assert failed(tmp_path / "strict") == [(2, "text_too_long")]
    few = {**SETTINGS, "max_text_chars": 20}
    job(tmp_path / "in.parquet", out=tmp_path / "short", settings=few)
    assert failed(tmp_path / "short") == [(2, "text_too_long")]


def test_text_on_which_the_model_fails_fails_alone(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder._outcomes

    def poisoned(self: TextEncoder, ids: Sequence[list[int]], batch: list[int]) -> Any:
        real = self._encoder

        def run(texts: Sequence[Sequence[int]]) -> FloatArray:
            if any(len(text) == 5 for text in texts):
                raise RuntimeError("secret")
            return real(texts)

        self._encoder = run  # type: ignore[assignment]  # a model that fails on one text
        try:
            return encoder(self, ids, batch)
        finally:
            self._encoder = real

    monkeypatch.setattr(TextEncoder, "_outcomes", poisoned)
    one = {**SETTINGS, "workers": 1}
    texts = ["the food", "a bad train", "the leaves", "not good"]
    job(write(tmp_path / "in.csv", texts), settings=one)
    assert failed(tmp_path / "out") == [(2, "inference_failed")]
    assert len(read_table(tmp_path / "out")) == 3


def test_batches_hold_each_text_once_within_the_budget_the_longest_first() -> None:
    lengths = [3, 50, 4, 4, 9, 120, 3]
    packed = list(batches(lengths, 60, padded=False))
    assert packed == [[5], [1, 4], [2, 3, 0, 6]]
    assert list(batches(lengths, 60, padded=True)) == [[5], [1], [4, 2, 3, 0, 6]]


def test_cluster_may_be_named_without_an_address(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(cli.bulk, "_on_cluster", asked.append)
    write(tmp_path / "in.csv", TEXTS[:2])
    told = [str(tmp_path / "in.csv"), "--model", "embedding", "--model-store", str(tiny_store)]
    monkeypatch.setenv("ENCSERVE_PROBE", "false")
    for number, ray in enumerate((["--ray"], ["--ray", "10.0.0.1:6379"], ["--ray", "local"])):
        result = CliRunner().invoke(
            cli.app, ["bulk", *told[:1], str(tmp_path / str(number)), *told[1:], *ray]
        )
        assert result.exit_code == 0, result.output
    assert asked == ["auto", "10.0.0.1:6379", "local"]


def test_command_shows_what_came_of_it(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCSERVE_PROBE", "false")
    write(tmp_path / "in.csv", [*TEXTS, ""])
    told = ["bulk", str(tmp_path / "in.csv"), str(tmp_path / "out"), "--model", "embedding@1"]
    result = CliRunner().invoke(cli.app, [*told, "--model-store", str(tiny_store)])
    assert result.exit_code == 0, result.output
    assert "50 of 51 rows in" in result.output
    assert "1 failed" in result.output
