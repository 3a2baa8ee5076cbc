"""The project's own corpus."""

import re
from collections import Counter
from pathlib import Path

import pytest

from service.offline import corpus
from service.offline.corpus import SENTIMENT_LABELS, load_sentiment_corpus
from service.offline.data import Example, digest_of
from service.offline.reading import read_examples

KINDS = sorted(Path(corpus.__file__).parent.glob("*.tsv"))


def plain(text: str) -> str:
    return re.sub(r"[^\w]+", " ", text.lower()).strip()


def test_corpus_is_large_enough_and_covers_many_kinds_of_text() -> None:
    counts = Counter(example.label for example in load_sentiment_corpus())
    assert set(counts) == set(SENTIMENT_LABELS)
    assert min(counts.values()) >= 800
    assert sum(counts.values()) >= 2400
    assert len(KINDS) >= 14


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


def test_digest_depends_on_texts_labels_and_order() -> None:
    a, b = Example("a", "good"), Example("b", "bad")
    digests = {digest_of(rows) for rows in ([a, b], [b, a], [a], [Example("a", "bad"), b])}
    assert len(digests) == 4
