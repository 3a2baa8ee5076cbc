"""What tests of `encserve bulk` share: inputs, and what came of a job."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from service.bulk.summary import Summary
from service.runtime.outputs import FloatArray
from tests.conftest import SENTENCES

TEXTS = [f"{SENTENCES[number % 4]} {'the food ' * (number % 7)}{number}" for number in range(50)]
SETTINGS = {"probe": False, "workers": 2}
# Whoever reads a folder of Parquet passes over the other files that are there.
read_table = parquet.read_table


Job = Callable[..., Summary]


@contextmanager
def unseen(description: str, rows: int, done: int) -> Iterator[Callable[[int], None]]:
    yield lambda more: None


def write(path: Path, texts: Sequence[object]) -> Path:
    """The texts as the column `text`, beside their numbers."""
    rows = [{"number": number, "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            file.write("number,text\n" if path.suffix == ".csv" else "number\ttext\n")
            if path.suffix == ".csv":
                csv.writer(file).writerows(row.values() for row in rows)
            else:
                file.writelines(f"{row['number']}\t{row['text']}\n" for row in rows)
    return path


def vectors(table: Any, column: str = "embedding") -> FloatArray:
    return np.stack(table.column(column).to_numpy())


def failed(out: Path) -> list[tuple[int, str]]:
    lines = (out / "_failed.jsonl").read_text().splitlines()
    return [(row["row"], row["code"]) for row in map(json.loads, lines)]
