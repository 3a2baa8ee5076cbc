"""Reading other people's files: the forms, the columns, the labels of each kind of problem."""

import json
import re
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from service.errors import DatasetInvalid, InvalidField
from service.offline.data import Example, ScoredPair
from service.offline.reading import (
    Columns,
    read_belonging_pairs,
    read_examples,
    read_problem_type,
    read_scored_pairs,
    read_texts,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tsv_takes_quotes_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"Quoted" said\tgood\nit\'s 5" wide\tbad\n')
    assert read_examples(path) == [
        Example('"Quoted" said', "good"),
        Example("it's 5\" wide", "bad"),
    ]


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufefflabel,text,id\r\ngood,"one, two\nthree",7\r\n')
    assert read_examples(path) == [Example("one, two\nthree", "good")]


def test_columns_may_have_other_names_and_a_second_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "review,stars,reply\nfine,5,thanks\n")
    columns = Columns(text="review", label="stars", pair="reply")
    assert read_examples(path, columns) == [Example("fine", "5", "thanks")]


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]
    lines = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = [Example("one", "1"), Example("two", "0")]
    assert read_examples(lines) == read_examples(tmp_path / "a.parquet") == expected


def test_class_that_a_data_frame_made_a_float_is_its_number(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["one", "two", "three"], "label": [1.0, None, 2.5]})
    parquet.write_table(table, tmp_path / "a.parquet")
    labels = [example.label for example in read_examples(tmp_path / "a.parquet")]
    assert labels == ["1", "", "2.5"]


@pytest.mark.parametrize("written", ["b|a", "b,a", "a, b,", "|a|b|a"])
def test_any_number_of_labels_is_read_from_a_cell(tmp_path: Path, written: str) -> None:
    path = write(tmp_path / "a.tsv", f"text\tlabel\none\t{written}\ntwo\t\n")
    labels = [example.label for example in read_examples(path, problem_type="multi_label")]
    assert labels == [("a", "b"), ()]


def test_any_number_of_labels_is_read_from_a_list(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one", "label": ["b", "a, too"]}\n')
    (example,) = read_examples(path, problem_type="multi_label")
    assert example.label == ("a, too", "b")


@pytest.mark.parametrize("written", ["high", "", "nan", "inf"])
def test_what_is_no_finite_number_cannot_be_regressed(tmp_path: Path, written: str) -> None:
    path = write(tmp_path / "a.tsv", f"text\tlabel\none\t2.5\ntwo\t{written}\n")
    with pytest.raises(DatasetInvalid, match="row 2: what should be a number is n"):
        read_examples(path, problem_type="regression")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "text\tlabel\n", "is not a file of rows"),
        ("a.tsv", "", "it has no rows"),
        ("a.tsv", "text\tmood\na\tb\n", "'label'; it has 'text', 'mood': name the columns"),
        ("a.jsonl", '{"text": "a"}\nnonsense\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.parquet", "nonsense", "cannot be read"),
    ],
)
def test_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=re.escape(words)):
        read_examples(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["none.tsv", "none.jsonl", "none.parquet"])
def test_missing_file_and_wrong_encoding_are_our_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        read_examples(tmp_path / name)
    (tmp_path / "latin.tsv").write_bytes(b"text\tlabel\ncaf\xe9\tgood\n")
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        read_examples(tmp_path / "latin.tsv")


def test_plain_texts_are_lines_or_columns(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "one\n\ntwo\n")
    assert read_texts(lines) == ["one", "two"]
    pairs = write(tmp_path / "a.tsv", "sentence1\tsentence2\tscore\none\ttwo\t1\nthree\t\t2\n")
    columns = ("text", "sentence1", "sentence2")
    assert read_texts(pairs, columns) == ["one", "two", "three"]
    with pytest.raises(DatasetInvalid, match="'text'"):
        read_texts(pairs)


def test_pairs_have_scores_or_belong_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "sentence1\tsentence2\tscore\none\ttwo\t1.5\n")
    assert read_scored_pairs(path) == [ScoredPair("one", "two", 1.5)]
    assert read_belonging_pairs(path) == [ScoredPair("one", "two", 1.0)]


def test_unknown_kind_of_problem_is_refused() -> None:
    assert read_problem_type("multi_label") == "multi_label"
    with pytest.raises(InvalidField, match="single_label, multi_label or regression"):
        read_problem_type("binary")
