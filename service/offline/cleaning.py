"""What is mended in people's data, what is dropped and why, and what cannot be learned from."""

import html
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.entities import html5
from statistics import fmean
from typing import cast

from service.errors import DatasetInvalid
from service.offline.data import Example, Label
from service.runtime.outputs import ProblemType

MIN_TEXTS = 20
MIN_TEXTS_PER_LABEL = 4
# What was escaped once too often is unescaped as often, and what means itself is not unescaped on.
MOST_ESCAPES = 2

# The halves of characters among them: no tokenizer takes those.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\u200b\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")
# Only what ends in a semicolon: the `&copy=` of an address means itself.
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w*);")


@dataclass(frozen=True)
class Cleaned:
    """What is left to learn from.

    rows: how many there were. dropped: rows by the reason, the commonest first. changed: rows by
        what was mended in them.
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
    """Mend each text; drop what is empty, has no label, stands twice, or has two labels.

    Of the same text with different labels nothing is kept, as none of them is known to be right; of
    different numbers, their mean. Texts are the same whatever their case and blanks, see `key_of`.
    """
    changed: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    by_text: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        mended = _mend(example, changed)
        if reason := _unusable(mended):
            dropped[reason] += 1
        else:
            by_text[key_of(mended)].append(mended)
    kept = []
    for same in by_text.values():
        if len({example.label for example in same}) == 1:
            kept.append(same[0])
        elif problem_type == "regression":
            kept.append(replace(same[0], label=fmean(cast(float, e.label) for e in same)))
            changed["different numbers, now their mean"] += 1
        else:
            dropped["with conflicting labels"] += len(same)
            continue
        dropped["duplicates"] += len(same) - 1
    return Cleaned(kept, len(examples), dict((+dropped).most_common()), dict(changed))


def usable(examples: Sequence[Example]) -> Cleaned:
    """Only drop what is empty or has no label: what is measured is measured as it stands.

    Raises:
        DatasetInvalid: nothing is left.
    """
    dropped: Counter[str] = Counter()
    kept = []
    for example in examples:
        if reason := _unusable(_mend(example, Counter())):
            dropped[reason] += 1
        else:
            kept.append(example)
    if not kept:
        raise DatasetInvalid(
            f"none of {len(examples)} rows can be measured: each has to have a text and a label"
        )
    return Cleaned(kept, len(examples), dict(dropped.most_common()), {})


def key_of(example: Example) -> str:
    """Examples with the same key are duplicates: neither case nor blanks make a difference.

    It is the same before and after cleaning.
    """
    parts = [example.text] if example.pair is None else [example.text, example.pair]
    return "\n".join(map(_comparable, parts))


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


def _unusable(mended: Example) -> str | None:
    """Why there is nothing to learn from it or to measure on it; None if there is."""
    if not mended.text or mended.pair == "":
        return "empty"
    return "without a label" if mended.label == "" else None


def _mend(example: Example, changed: Counter[str]) -> Example:
    text, kinds = _mend_text(example.text)
    pair, more = (None, set[str]()) if example.pair is None else _mend_text(example.pair)
    changed.update(sorted(kinds | more))
    return replace(example, text=text, pair=pair)


def _mend_text(text: str) -> tuple[str, set[str]]:
    """The text as it should be, and what there was to mend in it; blanks are not worth a word."""
    unescaped = _unescape(text)
    plain = _CONTROL.sub("", unescaped)
    steps = {"HTML entities": unescaped != text, "control characters": plain != unescaped}
    mended = _BLANKS.sub(" ", unicodedata.normalize("NFC", plain)).strip()
    return mended, {kind for kind, done in steps.items() if done}


def _unescape(text: str) -> str:
    for _ in range(MOST_ESCAPES):
        text = _ENTITY.sub(_character, text)
    return text


def _character(entity: re.Match[str]) -> str:
    known = entity[1].startswith("#") or f"{entity[1]};" in html5
    return html.unescape(entity[0]) if known else entity[0]


def _comparable(text: str) -> str:
    """Mended until there is nothing to mend, so that it does not matter where one starts."""
    while (mended := _mend_text(text)[0]) != text:
        text = mended
    return text.casefold()


def _names(label: Label) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else (str(label),)


def _by_value(label: str) -> tuple[float, str]:
    """Words behind numbers; `nan` and `inf` are words."""
    try:
        value = float(label)
    except ValueError:
        value = math.inf
    return (value if math.isfinite(value) else math.inf, label)
