"""What is mended, what is dropped and why, what is refused; and splits that share nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import DatasetInvalid
from service.offline.cleaning import MIN_TEXTS, clean, key_of, labels_of, usable
from service.offline.data import Example, Label
from service.offline.splits import split
from service.runtime.outputs import ProblemType


def test_texts_are_mended_and_the_count_is_said() -> None:
    found = clean(
        [
            Example("fish &amp; chips", "a"),
            Example("twice &amp;lt; escaped", "a"),
            Example("with\x00 control\u200b and \r\n breaks ", "b"),
            Example("cafe\u0301", "b"),
        ],
        "single_label",
    )
    assert [example.text for example in found.examples] == [
        "fish & chips",
        "twice < escaped",
        "with control and breaks",
        "café",
    ]
    assert found.changed == {"HTML entities": 2, "control characters": 1}
    assert found.describe() == ["mended texts: 2 with HTML entities, 1 with control characters"]


def test_what_cannot_be_learned_from_is_dropped_with_its_reason() -> None:
    found = clean(
        [
            Example("one", "a"),
            Example(" ONE ", "a"),
            Example("two", "a"),
            Example("two", "b"),
            Example(" \x00 ", "a"),
            Example("three", ""),
        ],
        "single_label",
    )
    assert found.examples == [Example("one", "a")]
    assert found.dropped == {
        "duplicates": 1,
        "with conflicting labels": 2,
        "empty": 1,
        "without a label": 1,
    }
    assert found.describe()[0].startswith("dropped 5 of 6 rows: ")


def test_clean_data_is_left_as_it_is_and_nothing_is_said() -> None:
    examples = [Example("one", "a"), Example("two", "b")]
    found = clean(examples, "single_label")
    assert found.examples == examples
    assert found.describe() == []


def test_pair_is_a_duplicate_only_if_both_texts_are() -> None:
    pairs = [Example("one", "a", "x"), Example("one", "b", "y"), Example("One", "a", "X")]
    assert clean(pairs, "single_label").examples == pairs[:2]
    assert clean([Example("one", "a", " ")], "single_label").dropped == {"empty": 1}


def test_different_numbers_of_the_same_text_become_their_mean() -> None:
    found = clean([Example("one", 1.0), Example("one", 4.0), Example("two", 2.0)], "regression")
    assert found.examples == [Example("one", 2.5), Example("two", 2.0)]


def many(*labels: Label, each: int = MIN_TEXTS) -> list[Example]:
    return [Example(f"{label} {index}", label) for label in labels for index in range(each)]


@pytest.mark.parametrize(
    ("examples", "problem_type", "words"),
    [
        (many("a", "b", each=5), "single_label", "10 texts are too few"),
        (many("a"), "single_label", "at least 2 labels"),
        ([*many("a", "b"), Example("rare", "c")], "single_label", "fewer have: c; add some"),
        (many(1.5), "regression", "the same number"),
        (many(()), "multi_label", "at least 1 labels"),
        ([*many(("a",)), Example("rare", ("a", "b"))], "multi_label", "fewer have: b"),
    ],
)
def test_data_without_anything_to_learn_is_refused(
    examples: list[Example], problem_type: ProblemType, words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=words):
        labels_of(examples, problem_type)


def test_labels_are_in_alphabetical_order_and_numbers_by_value() -> None:
    assert labels_of(many("good", "bad"), "single_label") == ("bad", "good")
    assert labels_of(many("10", "2", "1"), "single_label") == ("1", "2", "10")
    assert labels_of(many(("b", "a"), ()), "multi_label") == ("a", "b")
    assert labels_of(many(1.0, 2.0), "regression") == ("score",)


WORDS = st.text("abc AB", min_size=1, max_size=4).filter(lambda text: bool(text.strip()))
EXAMPLES = st.lists(st.builds(Example, WORDS, st.sampled_from(["x", "y", "z"])), max_size=120)


@given(examples=EXAMPLES, seed=st.integers(0, 3))
def test_parts_lose_nothing_and_share_no_text(examples: list[Example], seed: int) -> None:
    parts = split(examples, "single_label", (0.1, 0.2), seed)
    assert Counter(example for part in parts for example in part) == Counter(examples)
    keys = [{key_of(example) for example in part} for part in parts]
    assert len(set().union(*keys)) == sum(map(len, keys))
    assert parts == split(examples, "single_label", (0.1, 0.2), seed)


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("single_label", ["a"] * 300 + ["b"] * 60 + ["c"] * 10),
        ("multi_label", [("a",)] * 300 + [("a", "b")] * 60 + [()] * 10),
        ("regression", [float(number) for number in range(370)]),
    ],
)
def test_each_part_has_its_share_of_every_label(
    problem_type: ProblemType, labels: list[Label]
) -> None:
    examples = [Example(f"text {index}", label) for index, label in enumerate(labels)]
    train, dev, test = split(examples, problem_type, (0.1, 0.1), 0)
    assert len(dev) == pytest.approx(37, abs=4)
    assert len(test) == pytest.approx(37, abs=4)
    if problem_type == "regression":
        numbers = sorted(float(str(example.label)) for example in dev)
        assert numbers[0] < 50
        assert numbers[-1] > 320
        return
    whole = Counter(labels)
    for part, share in ((train, 0.8), (dev, 0.1), (test, 0.1)):
        counts = Counter(example.label for example in part)
        for label, count in whole.items():
            assert counts[label] == pytest.approx(share * count, abs=1)


def test_another_seed_makes_other_parts() -> None:
    examples = many("a", "b", each=50)
    first, second = (split(examples, "single_label", (0.2,), seed)[1] for seed in (1, 2))
    assert {example.text for example in first} != {example.text for example in second}


def test_a_rare_label_is_learned_before_it_is_measured() -> None:
    examples = [*many("a", "b", each=40), Example("only one", "c")]
    train, dev, test = split(examples, "single_label", (0.1, 0.1), 0)
    assert "c" in {example.label for example in train}
    assert "c" not in {example.label for example in (*dev, *test)}


def test_what_is_measured_is_not_mended() -> None:
    twice = [Example(" a &amp; b ", "x"), Example(" a &amp; b ", "y")]
    found = usable([*twice, Example("\u200b", "x"), Example("c", "x", " "), Example("d", "")])
    assert found.examples == twice
    assert found.dropped == {"empty": 2, "without a label": 1}
    with pytest.raises(DatasetInvalid, match="none of 1 rows can be measured"):
        usable([Example("", "x")])
