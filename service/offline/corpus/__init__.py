"""Labelled text: the sentiment corpus written for this project, and people's own files."""

import csv
import hashlib
import math
import random
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


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts and how alike people found them, on any scale."""

    first: str
    second: str
    score: float


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
    return [
        _example(row[text_column], row[label_column], f"{path}, row {number}")
        for number, row in enumerate(_read_rows(path, text_column, label_column), start=1)
    ]


def read_scored_pairs(path: Path) -> list[ScoredPair]:
    """Read a .tsv or .csv file with the columns sentence1, sentence2 and score.

    Raises:
        DatasetInvalid: as `read_examples`, or a score is not a number.
    """
    rows = _read_rows(path, "sentence1", "sentence2", "score")
    try:
        pairs = [
            ScoredPair(row["sentence1"], row["sentence2"], float(row["score"])) for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise DatasetInvalid(f"{path}: a score is not a number") from error
    if not all(math.isfinite(pair.score) for pair in pairs):
        raise DatasetInvalid(f"{path}: a score is not a number")
    return pairs


def join_to_mixed_lengths(sentences: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """Texts of one to twenty of the sentences, in lengths as people send them."""
    rng = random.Random(seed)
    lengths = [rng.choice((1, 1, 1, 2, 2, 4, 8, 20)) for _ in range(count)]
    return [" ".join(rng.choices(sentences, k=length)) for length in lengths]


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


def _read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    if path.suffix not in _DIALECTS:
        raise DatasetInvalid(f"{path} is neither .tsv nor .csv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, dialect=_DIALECTS[path.suffix]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{path} cannot be read: {error}") from error
    if not rows or not set(columns) <= rows[0].keys():
        names = ", ".join(map(repr, columns))
        raise DatasetInvalid(f"{path} needs rows and the columns {names}")
    return rows


def _example(text: str | None, label: str | None, where: str) -> Example:
    if not text or not text.strip() or not label or not label.strip():
        raise DatasetInvalid(f"{where}: an empty text or label")
    return Example(text.strip(), label.strip())
