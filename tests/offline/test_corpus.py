"""The project's own corpus, and reading other people's files."""

import re
from collections import Counter
from pathlib import Path

import pytest

from service.errors import DatasetInvalid
from service.offline import corpus
from service.offline.corpus import (
    SENTIMENT_LABELS,
    Example,
    digest_of,
    labels_of,
    load_sentiment_corpus,
    read_examples,
)

KINDS = sorted(Path(corpus.__file__).parent.glob("*.tsv"))


def plain(text: str) -> str:
    return re.sub(r"[^\w]+", " ", text.lower()).strip()


def test_corpus_is_large_enough_and_covers_many_kinds_of_text() -> None:
    counts = Counter(example.label for example in load_sentiment_corpus())
    assert set(counts) == set(SENTIMENT_LABELS)
    assert min(counts.values()) >= 200
    assert len(KINDS) >= 8


@pytest.mark.parametrize("kind", KINDS, ids=lambda path: path.stem)
def test_each_kind_of_text_holds_every_label(kind: Path) -> None:
    counts = Counter(example.label for example in read_examples(kind))
    assert set(counts) == set(SENTIMENT_LABELS)
    assert min(counts.values()) >= 20


def test_no_text_stands_twice() -> None:
    counts = Counter(plain(example.text) for example in load_sentiment_corpus())
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(
    "shown",
    [
        "I waited an hour and the food was cold.",
        "The train leaves at nine.",
        "Best purchase I have made in years!",
    ],
)
def test_sentences_that_show_the_model_off_were_not_learned(shown: str) -> None:
    assert plain(shown) not in {plain(example.text) for example in load_sentiment_corpus()}


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


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "review,stars\nfine,5\n")
    found = read_examples(path, text_column="review", label_column="stars")
    assert found == [Example("fine", "5")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "text\tlabel\n", "neither .tsv nor .csv"),
        ("a.tsv", "", "needs rows and the columns"),
        ("a.tsv", "text\tmood\na\tb\n", "'label'"),
        ("a.tsv", "text\tlabel\na\tgood\n \tbad\n", "row 2: an empty text"),
        ("a.tsv", "text\tlabel\nonly text\n", "row 1: an empty text or label"),
    ],
)
def test_file_that_cannot_be_learned_from_says_why(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=re.escape(words)):
        read_examples(write(tmp_path / name, content))


def test_missing_file_and_wrong_encoding_are_our_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        read_examples(tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"text\tlabel\ncaf\xe9\tgood\n")
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        read_examples(tmp_path / "latin.tsv")


def test_one_label_or_a_label_seen_once_cannot_be_learned() -> None:
    with pytest.raises(DatasetInvalid, match="at least two labels"):
        labels_of([Example("a", "good"), Example("b", "good")])
    with pytest.raises(DatasetInvalid, match="at least two texts"):
        labels_of([Example("a", "good"), Example("b", "good"), Example("c", "bad")])


def test_digest_depends_on_texts_labels_and_order() -> None:
    a, b = Example("a", "good"), Example("b", "bad")
    digests = {digest_of(rows) for rows in ([a, b], [b, a], [a], [Example("a", "bad"), b])}
    assert len(digests) == 4
