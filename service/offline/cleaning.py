"""What is mended in people's data, what is dropped and why, and what cannot be learned from."""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from service.errors import DatasetInvalid
from service.offline.data import Example, Label
from service.runtime.outputs import ProblemType

MIN_TEXTS = 20
MIN_TEXTS_PER_LABEL = 4
# What was escaped once too often is unescaped as often, and what means itself is not unescaped on.
MOST_ESCAPES = 2

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\u200b]")
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True)
class Cleaned:
    """What is left to learn from.

    dropped: rows by the reason. changed: rows by what was mended in them.
    """

    examples: list[Example]
    rows: int
    dropped: dict[str, int]
    changed: dict[str, int]

    def describe(self) -> list[str]:
        """What was done, a line each; nothing where nothing was."""
        lines = []
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            dropped = sum(self.dropped.values())
            lines.append(f"dropped {dropped} of {self.rows} rows: {reasons}")
        if self.changed:
            kinds = ", ".join(f"{count} with {kind}" for kind, count in self.changed.items())
            lines.append(f"mended texts: {kinds}")
        return lines


def clean(examples: Sequence[Example], problem_type: ProblemType) -> Cleaned:
    """Mend each text; drop what is empty, stands twice, or has two labels.

    Of the same text with different labels nothing is kept, as none of them is known to be right; of
    different numbers, their mean.
    """
    changed: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    by_text: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        mended = _mend(example, changed)
        if not mended.text or mended.pair == "":
            dropped["empty"] += 1
        elif mended.label == "":
            dropped["without a label"] += 1
        else:
            by_text[key_of(mended)].append(mended)
    kept = []
    for same in by_text.values():
        labels = list(dict.fromkeys(example.label for example in same))
        if len(labels) > 1 and problem_type != "regression":
            dropped["with conflicting labels"] += len(same)
            continue
        dropped["duplicates"] += len(same) - 1
        kept.append(replace(same[0], label=_agreed(labels)))
    return Cleaned(kept, len(examples), +dropped, dict(changed))


def key_of(example: Example) -> str:
    """Examples with the same key are duplicates: neither case nor blanks make a difference."""
    parts = [example.text] if example.pair is None else [example.text, example.pair]
    return "\n".join(_BLANKS.sub(" ", part).strip().casefold() for part in parts)


def labels_of(examples: Sequence[Example], problem_type: ProblemType) -> tuple[str, ...]:
    """The labels in alphabetical order, numbers by their value; for regression, one name.

    Raises:
        DatasetInvalid: too few texts, one label only, a label too rare, or one number only.
    """
    if len(examples) < MIN_TEXTS:
        raise DatasetInvalid(
            f"{len(examples)} texts are too few to learn from and to measure on: "
            f"at least {MIN_TEXTS} are needed"
        )
    if problem_type == "regression":
        if len({example.label for example in examples}) < 2:
            raise DatasetInvalid("all texts have the same number: there is nothing to learn")
        return ("score",)
    counts = Counter(name for example in examples for name in _names(example.label))
    needed = 2 if problem_type == "single_label" else 1
    if len(counts) < needed:
        raise DatasetInvalid(f"learning needs at least {needed} labels, found {sorted(counts)}")
    rare = sorted(label for label, count in counts.items() if count < MIN_TEXTS_PER_LABEL)
    if rare:
        raise DatasetInvalid(
            f"each label needs at least {MIN_TEXTS_PER_LABEL} texts, fewer have: "
            f"{', '.join(rare)}; add some, or drop the label"
        )
    return tuple(sorted(counts, key=_by_value))


def _mend(example: Example, changed: Counter[str]) -> Example:
    return replace(
        example,
        text=_mend_text(example.text, changed),
        pair=None if example.pair is None else _mend_text(example.pair, changed),
    )


def _mend_text(text: str, changed: Counter[str]) -> str:
    unescaped = text
    for _ in range(MOST_ESCAPES):
        unescaped = html.unescape(unescaped)
    changed["HTML entities"] += unescaped != text
    plain = _CONTROL.sub("", unescaped)
    changed["control characters"] += plain != unescaped
    for kind in [kind for kind, count in changed.items() if not count]:
        del changed[kind]
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", plain)).strip()


def _agreed(labels: Sequence[Label]) -> Label:
    numbers = [label for label in labels if isinstance(label, float | int)]
    return fmean(numbers) if numbers else labels[0]


def _names(label: Label) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else (str(label),)


def _by_value(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)
