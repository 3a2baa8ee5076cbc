"""Labelled text: the sentiment corpus written for this project, and people's own files."""

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from service.errors import DatasetInvalid

SENTIMENT_LABELS = ("negative", "neutral", "positive")


class _Tsv(csv.Dialect):
    delimiter = "\t"
    quoting = csv.QUOTE_NONE
    lineterminator = "\n"


_DIALECTS: dict[str, type[csv.Dialect]] = {".tsv": _Tsv, ".csv": csv.excel}


@dataclass(frozen=True, slots=True)
class Example:
    """A text and its label."""

    text: str
    label: str


def load_sentiment_corpus() -> list[Example]:
    """Every sentence of the project's corpus, one TSV file a kind of text."""
    folder = resources.files(__name__)
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".tsv")), key=lambda f: f.name
    )
    return [example for file in files for example in read_examples(Path(str(file)))]


def read_examples(
    path: Path, *, text_column: str = "text", label_column: str = "label"
) -> list[Example]:
    """Read a .tsv (tab-separated, nothing quoted) or .csv file with a header line.

    Raises:
        DatasetInvalid: the file cannot be read, lacks a column, or has an empty text or label.
    """
    if path.suffix not in _DIALECTS:
        raise DatasetInvalid(f"{path} is neither .tsv nor .csv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, dialect=_DIALECTS[path.suffix]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{path} cannot be read: {error}") from error
    if not rows or not {text_column, label_column} <= rows[0].keys():
        raise DatasetInvalid(f"{path} needs rows and the columns {text_column!r}, {label_column!r}")
    return [
        _example(row[text_column], row[label_column], f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    ]


def labels_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """The labels in alphabetical order, which for sentiment runs from negative to positive.

    Raises:
        DatasetInvalid: fewer than two labels, or a label with fewer than two texts.
    """
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        raise DatasetInvalid(f"learning needs at least two labels, found {sorted(counts)}")
    if rare := sorted(label for label, count in counts.items() if count < 2):
        raise DatasetInvalid(f"each label needs at least two texts; only one for {rare}")
    return tuple(sorted(counts))


def digest_of(examples: Sequence[Example]) -> str:
    """sha256 over all texts and labels in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{example.label}\t{example.text}\n".encode())
    return digest.hexdigest()


def _example(text: str | None, label: str | None, where: str) -> Example:
    if not text or not text.strip() or not label or not label.strip():
        raise DatasetInvalid(f"{where}: an empty text or label")
    return Example(text.strip(), label.strip())
