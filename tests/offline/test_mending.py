"""What is mended in texts and what must not be: addresses, keys, counts, means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.offline.cleaning import clean, key_of, labels_of
from service.offline.data import Example

# What unescaping, composing, case and blanks work on.
TRICKY = st.text(
    st.sampled_from([*"&#;ampltx39", "\x00", "\u200b", "\ud83d", "e", "\u0301", " ", "\n", "İ"]),
    max_size=30,
)


@pytest.mark.parametrize(
    "text",
    [
        "see ?a=1&region=2&copy=3",
        "AT&T and R&D; M&S",
        "written &unknown; stays",
        "a family 👨‍👩‍👧 and ½ ﬁne",
    ],
)
def test_what_is_no_entity_means_itself(text: str) -> None:
    assert clean([Example(text, "a")], "single_label").examples == [Example(text, "a")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("it&#39;s &#x27;so&#X27;", "it's 'so'"),
        ("a&nbsp;b", "a b"),
        ("&amp;amp;", "&"),
        ("tab\tand\u2028line", "tab and line"),
        ("half \ud83d of one", "half of one"),
        ("\ufeffmark", "mark"),
    ],
)
def test_what_went_wrong_on_the_way_is_mended(written: str, meant: str) -> None:
    (example,) = clean([Example(written, "a", written)], "single_label").examples
    assert (example.text, example.pair) == (meant, meant)


@given(text=TRICKY)
def test_key_is_the_same_before_and_after_cleaning(text: str) -> None:
    for example in clean([Example(text, "a")], "single_label").examples:
        assert key_of(example) == key_of(Example(text, "a"))


@given(texts=st.lists(st.tuples(TRICKY, st.sampled_from(["a", "b", ""])), max_size=20))
def test_every_row_is_kept_or_counted_and_no_key_stands_twice(texts: list[tuple[str, str]]) -> None:
    found = clean([Example(text, label) for text, label in texts], "single_label")
    assert len(found.examples) + sum(found.dropped.values()) == len(texts)
    keys = [key_of(example) for example in found.examples]
    assert len(keys) == len(set(keys))
    for example in found.examples:
        assert example.text.encode().decode().strip() == example.text != ""


def test_text_escaped_a_thousand_times_has_a_key() -> None:
    assert key_of(Example("&" + "amp;" * 5000, "a")) == "&"


def test_both_texts_of_a_pair_count_as_one_row() -> None:
    found = clean([Example("a &lt; b", "x", "b &gt; a")], "single_label")
    assert found.changed == {"HTML entities": 1}


def test_mean_of_numbers_counts_every_row_and_is_said() -> None:
    examples = [Example("one", 1.0), Example("ONE", 1.0), Example("one ", 4.0)]
    found = clean(examples, "regression")
    assert found.examples == [Example("one", 2.0)]
    assert found.describe() == [
        "dropped 2 of 3 rows: 2 duplicates",
        "mended texts: 1 with different numbers, now their mean",
    ]


def test_commonest_reason_is_said_first() -> None:
    texts = ["", "one", "one", "one", "two"]
    found = clean([Example(text, "a") for text in texts], "single_label")
    assert found.describe() == ["dropped 3 of 5 rows: 2 duplicates, 1 empty"]


def test_different_sets_of_labels_are_a_conflict() -> None:
    examples = [Example("one", ("a",)), Example("one", ("a", "b")), Example("two", ())]
    assert clean(examples, "multi_label").examples == [Example("two", ())]


def test_words_that_python_reads_as_numbers_are_words() -> None:
    names = ("nan", "10", "inf", "9")
    examples = [Example(f"{name} {index}", name) for name in names for index in range(5)]
    assert labels_of(examples, "single_label") == ("9", "10", "inf", "nan")
