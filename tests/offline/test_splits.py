"""Splits: nothing lost, nothing shared, every label in its share, the same seed the same split."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import InvalidField
from service.offline.cleaning import key_of
from service.offline.data import Example, Label
from service.offline.splits import split
from service.runtime.outputs import ProblemType

FRACTIONS = st.sampled_from([(0.1,), (0.1, 0.1), (0.25, 0.05), (0.3, 0.3), (0.05, 0.05, 0.05)])
SEEDS = st.integers(0, 5)
NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS: dict[ProblemType, st.SearchStrategy[Label]] = {
    "single_label": NAMES,
    "multi_label": st.sets(NAMES).map(lambda names: tuple(sorted(names))),
    "regression": st.floats(-5, 5),
}
# Few enough letters for texts to come twice, in another case or with other blanks.
TEXTS = st.text("aAb ", max_size=4)

DEAL = """
from service.offline.data import Example
from service.offline.splits import split
examples = [Example(f"t{i}", tuple("abcd"[: i % 4]) + (f"rare{i % 17}",)) for i in range(80)]
print([[example.text for example in part] for part in split(examples, "multi_label", (0.2,), 1)])
"""


def unlike(labels: Sequence[Label]) -> list[Example]:
    return [Example(f"text {index}", label) for index, label in enumerate(labels)]


def names_of(example: Example) -> tuple[str, ...]:
    assert isinstance(example.label, tuple)
    return example.label


@pytest.mark.parametrize("problem_type", LABELS)
@given(data=st.data(), fractions=FRACTIONS, seed=SEEDS)
def test_nothing_is_lost_and_no_text_is_in_two_parts(
    problem_type: ProblemType, data: st.DataObject, fractions: tuple[float, ...], seed: int
) -> None:
    pairs = st.none() | TEXTS
    example = st.builds(Example, TEXTS, LABELS[problem_type], pairs)
    examples = data.draw(st.lists(example, max_size=60))
    parts = split(examples, problem_type, fractions, seed)
    assert len(parts) == len(fractions) + 1
    assert Counter(example for part in parts for example in part) == Counter(examples)
    keys = [key for part in parts for key in {key_of(example) for example in part}]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("problem_type", LABELS)
@given(data=st.data(), seed=SEEDS)
def test_same_seed_is_the_same_split(
    problem_type: ProblemType, data: st.DataObject, seed: int
) -> None:
    examples = unlike(data.draw(st.lists(LABELS[problem_type], max_size=40)))
    first, again = (split(examples, problem_type, (0.2, 0.1), seed) for _ in range(2))
    assert first == again


@example(counts={"a": 50, "b": 19}, fractions=(0.25, 0.05), seed=0)
@given(
    counts=st.dictionaries(NAMES, st.integers(1, 80), min_size=1), fractions=FRACTIONS, seed=SEEDS
)
def test_held_out_parts_have_their_share_of_each_label_within_one(
    counts: dict[str, int], fractions: tuple[float, ...], seed: int
) -> None:
    examples = unlike([label for label, count in counts.items() for _ in range(count)])
    _, *held_out = split(examples, "single_label", fractions, seed)
    for part, fraction in zip(held_out, fractions, strict=True):
        found = Counter(example.label for example in part)
        for label, count in counts.items():
            assert abs(found[label] - fraction * count) <= 1


@given(
    counts=st.dictionaries(NAMES, st.integers(1, 80), min_size=1), fractions=FRACTIONS, seed=SEEDS
)
def test_each_part_has_each_label_or_the_first_parts_have(
    counts: dict[str, int], fractions: tuple[float, ...], seed: int
) -> None:
    examples = unlike([label for label, count in counts.items() for _ in range(count)])
    parts = split(examples, "single_label", fractions, seed)
    for label, count in counts.items():
        having = [any(example.label == label for example in part) for part in parts]
        assert having[:count] == [True] * min(count, len(parts))


@given(numbers=st.lists(st.floats(-5, 5), min_size=10, max_size=80), seed=SEEDS)
def test_parts_of_numbers_are_as_large_as_asked_for(numbers: list[float], seed: int) -> None:
    train, dev, test = split(unlike(numbers), "regression", (0.1, 0.1), seed)
    assert abs(len(dev) - 0.1 * len(numbers)) <= 2
    assert abs(len(test) - 0.1 * len(numbers)) <= 2
    assert len(train) >= 0.6 * len(numbers)


def test_small_data_of_numbers_is_mostly_trained_on() -> None:
    examples = unlike([float(number) for number in range(20)])
    assert [len(part) for part in split(examples, "regression", (0.1, 0.1), 0)] == [16, 2, 2]


def test_label_that_stands_in_rare_sets_only_is_in_every_part() -> None:
    odd = [Example(f"odd {index}", ("odd", f"other {index}")) for index in range(5)]
    plain = [
        Example(f"plain {index}", (f"more {index % 7}", f"other {index % 9}"))
        for index in range(60)
    ]
    for seed in range(20):
        for part in split([*odd, *plain], "multi_label", (0.2, 0.2), seed):
            assert "odd" in {name for example in part for name in names_of(example)}


def test_pair_keeps_its_duplicates_and_another_second_text_does_not() -> None:
    twice = [Example("One", "a", "x"), Example("one ", "a", " X")]
    others = [Example("one", "a", f"other {index}") for index in range(30)]
    parts = split([*twice, *others], "single_label", (0.3, 0.3), 0)
    assert sorted(len([e for e in part if e in twice]) for part in parts) == [0, 0, 2]
    assert all(any(example in others for example in part) for part in parts)


def test_split_does_not_hang_on_the_order_of_sets() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", DEAL],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (1.0,), (-0.1,)])
def test_fractions_that_leave_nothing_to_train_on_are_refused(fractions: Sequence[float]) -> None:
    with pytest.raises(InvalidField, match="their sum stays below 1"):
        split(unlike(["a", "b"]), "single_label", fractions, 0)


def test_part_of_no_size_is_empty() -> None:
    train, dev = split(unlike(["a", "b"] * 10), "single_label", (0.0,), 0)
    assert (len(train), dev) == (20, [])
