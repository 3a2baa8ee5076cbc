"""Files that are nearly well-formed: nothing in them is cut, swallowed or guessed in silence."""

import re
from pathlib import Path

import datasets
import pytest

from service.errors import DatasetInvalid
from service.offline.data import Example, digest_of
from service.offline.reading import (
    Columns,
    read_belonging_pairs,
    read_examples,
    read_scored_pairs,
    read_texts,
)

FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["bad", "good"]),
        "labels": datasets.List(datasets.ClassLabel(names=["loud", "late"])),
    }
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "text,label\nfine,good\nwell, then,bad\n", "row 2 has more fields"),
        ("a.tsv", "text\tlabel\nwell\tthen\tbad\n", "row 1 has more fields"),
        ("a.csv", 'text,label\n"never closed,good\nfine,bad\n', "ends in a quote"),
        ("a.csv", 'text,label\n"He" said,good\n', "doubles those inside"),
    ],
)
def test_text_that_would_be_cut_is_refused_and_not_repeated(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=words) as caught:
        read_examples(write(tmp_path / name, content))
    assert not re.search("well|never closed|said", caught.value.message)


def test_column_that_stands_twice_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label,text,note,note\nfine,good,bad,a,b\n")
    for read in (read_examples, read_texts):
        with pytest.raises(DatasetInvalid, match="more than one column 'text': rename") as caught:
            read(path)
        assert "fine" not in caught.value.message
    path = write(tmp_path / "b.csv", "text,label,note,note\nfine,good,a,b\n")
    assert read_examples(path) == [Example("fine", "good")]


def test_blank_cells_behind_the_last_column_are_no_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nfine,good,,\n")
    assert read_examples(path) == [Example("fine", "good")]


def test_ending_of_a_name_is_read_in_any_case(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "A.CSV", "text,label\nfine,good\n")) == [
        Example("fine", "good")
    ]


def test_row_that_leaves_a_column_out_has_nothing_in_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": "two", "label": true}\n')
    assert read_examples(path) == [Example("one", ""), Example("two", "True")]


def test_no_answer_is_not_the_answer_that_no_label_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": []}\n{"text": "b", "label": null}\n')
    with pytest.raises(DatasetInvalid, match="row 2 has no labels: write an empty list"):
        read_examples(path, problem_type="multi_label")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"text": ["split", "up"], "label": "a"}', "what should be a text is a list"),
        (
            '{"text": "one", "label": ["a"]}',
            "what should be a name is a list; lists of names are multi_label",
        ),
        ('{"text": "one", "label": {"a": 1}}', "what should be a name is a dict"),
    ],
)
def test_value_of_another_kind_is_not_learned_as_its_python_form(
    tmp_path: Path, row: str, words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=f"row 1: {words}"):
        read_examples(write(tmp_path / "a.jsonl", row))


def test_wrong_encoding_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"text\tlabel\ncaf\xe9\tgood\n")
    with pytest.raises(DatasetInvalid, match="byte 14 is not UTF-8; save it in that encoding"):
        read_examples(tmp_path / "a.tsv")


def test_half_a_character_has_a_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "\\ud83d", "label": "a"}')
    assert len(digest_of(read_examples(path))) == 64


def test_other_names_of_pairs_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "q,a,s\none,two,0.5\n")
    (scored,) = read_scored_pairs(path, ("q", "a", "s"))
    (belonging,) = read_belonging_pairs(path, ("q", "a"))
    assert (scored.first, scored.second, scored.score) == ("one", "two", 0.5)
    assert (belonging.first, belonging.second) == ("one", "two")


def test_plain_texts_may_be_missing_in_some_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"id": 1}\n{"id": 2, "text": "two"}\n')
    assert read_texts(path) == ["two"]


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a data set with two splits; class -1 is the hub's word for no class."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mine"
    rows = {"text": ["one", "two"], "label": [1, -1], "labels": [[1, 0], []]}
    for split in ("train", "test"):
        found = datasets.Dataset.from_dict(rows, features=FEATURES)
        found.to_parquet(str(folder / "data" / f"{split}-00000.parquet"))
        rows = {"text": ["three"], "label": [0], "labels": [[0]]}
    return str(folder)


def test_split_of_a_data_set_is_named_behind_it(data_set: str) -> None:
    assert read_texts(data_set) == ["one", "two"]
    assert read_texts(f"{data_set}#test") == ["three"]
    with pytest.raises(DatasetInvalid, match="written org/name:config#split"):
        read_texts(f"{data_set}#none")


def test_classes_of_a_data_set_have_names_or_are_missing(data_set: str) -> None:
    assert [example.label for example in read_examples(data_set)] == ["good", ""]


def test_lists_of_classes_of_a_data_set_have_names(data_set: str) -> None:
    found = read_examples(data_set, Columns(label="labels"), "multi_label")
    assert [example.label for example in found] == [("late", "loud"), ()]


def test_data_set_that_cannot_be_downloaded_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetInvalid, match="the first time it has to be downloaded"):
        read_examples("nobody/nothing:plain#test")
