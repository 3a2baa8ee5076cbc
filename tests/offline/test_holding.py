"""What is held out: told, never empty, and never of a label that is not learned."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.errors import DatasetInvalid
from service.offline.data import Example
from service.offline.holding import Holding, Parts, hold_out
from service.runtime.outputs import ProblemType

EXAMPLES = [Example(f"{label} {n}", label) for n in range(20) for label in ("good", "bad")]
NUMBERS = [Example(f"number {n}", float(n)) for n in range(20)]


def held_out(
    examples: Sequence[Example],
    holding: Holding,
    problem_type: ProblemType = "single_label",
    said: list[str] | None = None,
) -> Parts:
    told: list[str] = [] if said is None else said
    return hold_out(examples, holding, problem_type, 13, told.append)


def test_test_data_that_are_all_of_the_data_are_refused() -> None:
    with pytest.raises(DatasetInvalid, match="leave --test-data out"):
        held_out(EXAMPLES, Holding(test=EXAMPLES))


def test_test_data_that_leave_next_to_nothing_are_refused() -> None:
    with pytest.raises(DatasetInvalid, match="1 texts are too few"):
        held_out(EXAMPLES, Holding(test=EXAMPLES[1:]))


def test_test_data_without_a_usable_row_are_refused() -> None:
    for test in ([], [Example("  ", "good"), Example("fine", "")]):
        with pytest.raises(DatasetInvalid, match="no row of --test-data"):
            held_out(EXAMPLES, Holding(test=test))


def test_label_that_only_the_test_data_have_is_refused_at_once() -> None:
    with pytest.raises(DatasetInvalid, match="labels that no text to learn from has: odd; known"):
        held_out(EXAMPLES, Holding(test=[Example("another", "odd")]))
    many = [replace(one, label=(str(one.label),)) for one in EXAMPLES]
    with pytest.raises(DatasetInvalid, match="has: odd; known"):
        held_out(many, Holding(test=[Example("another", ("bad", "odd"))]), "multi_label")


def test_label_whose_texts_are_all_measured_is_not_learned() -> None:
    rare = [Example(f"rare {n}", "rare") for n in range(4)]
    with pytest.raises(DatasetInvalid, match="has: rare; known are bad, good"):
        held_out([*EXAMPLES, *rare], Holding(test=rare))


def test_what_is_left_out_for_the_test_data_is_told() -> None:
    said: list[str] = []
    test = [EXAMPLES[0], EXAMPLES[1], Example("", "good"), Example("another", "bad")]
    parts = held_out(EXAMPLES, Holding(test=test), said=said)
    assert said == [
        "test data: dropped 1 of 4 rows: 1 empty",
        "left 2 of 40 out: they are in --test-data",
    ]
    assert parts.labels == ("bad", "good")
    assert (len(parts.train) + len(parts.dev), len(parts.test)) == (38, 3)


@pytest.mark.parametrize(
    ("holding", "words"),
    [
        (Holding(dev_fraction=0.01), "decide when to stop: raise --dev-fraction"),
        (Holding(dev_fraction=0.01, test=NUMBERS[:1]), "decide when to stop: raise --dev-fraction"),
        (Holding(test_fraction=0.01), "to measure: raise --test-fraction"),
    ],
)
def test_fraction_of_few_numbers_that_is_none_of_them_is_refused(
    holding: Holding, words: str
) -> None:
    examples = [*NUMBERS, Example("number 20", 20.0)]
    with pytest.raises(DatasetInvalid, match=words):
        held_out(examples, holding, "regression")
