"""What is held out of training: for deciding when to stop, and for measuring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.errors import DatasetInvalid
from service.offline.cleaning import clean, key_of, labels_of
from service.offline.data import Example
from service.offline.evaluation.fairness import FairnessPair
from service.offline.splits import split
from service.runtime.outputs import ProblemType


@dataclass(frozen=True)
class Holding:
    """What is held out of training, and what it is used for.

    dev_fraction: decides when to stop. test_fraction: measured for the report, seen by nothing
        in training; both calibrate.
    wanted_precision: what the thresholds of the labels are to reach.
    test: measured instead of a part of the data; then also judges int8.
    fairness: pairs of texts that differ in a person only.
    """

    dev_fraction: float = 0.1
    test_fraction: float = 0.1
    wanted_precision: float = 0.9
    test: Sequence[Example] | None = None
    fairness: Sequence[FairnessPair] = field(default=())


@dataclass(frozen=True)
class Parts:
    """Parts that share no text, none of them empty; `labels` are those of `train` and `dev`."""

    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    labels: tuple[str, ...]


def hold_out(
    examples: Sequence[Example],
    holding: Holding,
    problem_type: ProblemType,
    seed: int,
    say: Callable[[str], None],
) -> Parts:
    """Split clean examples as `holding` asks; `say` is told what is left out.

    Raises:
        DatasetInvalid: there is too little to learn from or to measure on, or the texts to be
            measured have a label that those to learn from lack.
    """
    if holding.test is None:
        labels = labels_of(examples, problem_type)
        fractions = (holding.dev_fraction, holding.test_fraction)
        train, dev, test = split(examples, problem_type, fractions, seed)
    else:
        test = _clean_test(holding.test, problem_type, say)
        examples = without(examples, test, "--test-data", say)
        labels = labels_of(examples, problem_type)
        _refuse_unknown(test, labels, problem_type)
        train, dev = split(examples, problem_type, (holding.dev_fraction,), seed)
    _refuse_empty(train, "to learn from", "lower --dev-fraction and --test-fraction")
    _refuse_empty(dev, "that decide when to stop", "raise --dev-fraction")
    _refuse_empty(test, "to measure", "raise --test-fraction")
    return Parts(train, dev, test, labels)


def _clean_test(
    examples: Sequence[Example], problem_type: ProblemType, say: Callable[[str], None]
) -> list[Example]:
    cleaned = clean(examples, problem_type)
    for line in cleaned.describe():
        say(f"test data: {line}")
    if not cleaned.examples:
        raise DatasetInvalid(
            "no row of --test-data is left to measure: each has to have a text and a label, "
            "and the same text the same label"
        )
    return cleaned.examples


def without(
    examples: Sequence[Example], held: Sequence[Example], option: str, say: Callable[[str], None]
) -> list[Example]:
    """What is measured, or decides when to stop, is not learned: no text or pair of `held`.

    Args:
        option: where `held` comes from.

    Raises:
        DatasetInvalid: nothing is left.
    """
    keys = {key_of(example) for example in held}
    left = [example for example in examples if key_of(example) not in keys]
    if len(left) < len(examples):
        say(f"left {len(examples) - len(left)} of {len(examples)} out: they are in {option}")
    if not left:
        raise DatasetInvalid(
            f"all of the data is in {option}, so that nothing is left to learn from: "
            f"leave {option} out to have a part of the data held out, or name other data"
        )
    return left


def _refuse_unknown(
    test: Sequence[Example], labels: Sequence[str], problem_type: ProblemType
) -> None:
    if problem_type == "regression":
        return
    found = {
        name
        for example in test
        for name in (example.label if isinstance(example.label, tuple) else [str(example.label)])
    }
    if unknown := sorted(found - set(labels)):
        raise DatasetInvalid(
            f"--test-data has labels that no text to learn from has: {', '.join(unknown)}; "
            f"known are {', '.join(labels)}: rename them, or drop their rows"
        )


def _refuse_empty(part: Sequence[Example], purpose: str, remedy: str) -> None:
    if not part:
        raise DatasetInvalid(f"no texts are left {purpose}: {remedy}, or add texts")
