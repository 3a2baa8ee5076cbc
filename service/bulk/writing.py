"""One part to disk: first its record, then the rows, whose rename is what makes it count."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict

from service.bulk.encoding import Encoded
from service.bulk.job import JOB_FOLDER, Job, Part
from service.bulk.reading import PartRows
from service.errors import InvalidField
from service.runtime.outputs import FloatArray
from service.store.files import sync, write_synced
from service.store.manifest import Manifest

TEMPORARY_SUFFIX = ".tmp"


class Record(BaseModel):
    """What became of a part. failed: number of the row in its input from 0, code, message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    out: int
    failed: tuple[tuple[int, str, str], ...]
    tokens: int
    truncated: int


def is_done(out: Path, job: Job, part: Part) -> bool:
    return (out / f"{job.part_name(part)}.parquet").exists()


def read_record(out: Path, job: Job, part: Part) -> Record:
    """The record of a part that is done."""
    return Record.model_validate_json(_record_file(out, job, part).read_bytes())


def added_columns(manifest: Manifest, prefix: str) -> list[str]:
    """What the output has beside the columns of the input."""
    if manifest.task == "embedding":
        names = ["embedding"]
    else:
        names = (
            ["scores"] if manifest.problem_type == "regression" else ["label", "score", "scores"]
        )
    return [prefix + name for name in names]


def require_new_columns(job: Job, manifest: Manifest) -> None:
    """Raises InvalidField if the input has a column of that name already."""
    taken = {column.name for source in job.inputs for column in source.columns}
    if clash := sorted(taken & set(added_columns(manifest, job.options.prefix))):
        raise InvalidField(
            f"the input has columns of the names that are added: {', '.join(clash)}; name those "
            "that are added otherwise with --prefix",
            param="prefix",
        )


class PartWriter:
    """Writes the parts of a job whose model has this manifest into `out`."""

    def __init__(self, out: Path, job: Job, manifest: Manifest) -> None:
        self._out = out
        self._job = job
        self._manifest = manifest

    def write(self, part: Part, rows: PartRows, encoded: Encoded) -> Record:
        """A part is there whole, or not at all; both files are on disk when the call returns."""
        failed = {**rows.faults}
        failed |= {rows.numbers[at]: fault for at, fault in encoded.faults.items()}
        record = Record(
            rows=part.rows,
            out=len(encoded.at),
            failed=tuple((row, failed[row].code, failed[row].message) for row in sorted(failed)),
            tokens=encoded.tokens,
            truncated=encoded.truncated,
        )
        folder = self._out / JOB_FOLDER
        self._put(_record_file(self._out, self._job, part), record.model_dump_json().encode())
        sync(folder)
        table = self._table(part, rows, encoded)
        target = self._out / f"{self._job.part_name(part)}.parquet"
        beside = _beside(folder, target)
        self._write_table(table, beside)
        sync(beside)
        beside.replace(target)
        sync(self._out)
        return record

    def _put(self, path: Path, data: bytes) -> None:
        beside = _beside(path.parent, path)
        write_synced(beside, data)
        beside.replace(path)

    def _table(self, part: Part, rows: PartRows, encoded: Encoded) -> Any:
        table = rows.table.take(pa.array(encoded.at, pa.int64()))
        columns = answer_columns(encoded.rows, self._manifest)
        names = added_columns(self._manifest, self._job.options.prefix)
        for name, column in zip(names, columns, strict=True):
            table = table.append_column(name, column)
        return table.replace_schema_metadata(
            {**(table.schema.metadata or {}), **self._metadata(part)}
        )

    def _metadata(self, part: Part) -> Mapping[bytes, bytes]:
        """Nothing that differs from one run of the job to the next."""
        model = self._job.model
        said: dict[str, object] = {
            "model": model.name,
            "version": model.version,
            "variant": model.variant,
            "digest": f"sha256:{model.digest}",
            "task": self._manifest.task,
            "column": self._job.options.column,
            "source": self._job.inputs[part.source].path.name,
            "first_row": part.first_row,
            "rows": part.rows,
        }
        if self._manifest.labels:
            said["labels"] = orjson.dumps(self._manifest.labels).decode()
        return {f"encserve.{key}".encode(): str(value).encode() for key, value in said.items()}

    def _write_table(self, table: Any, path: Path) -> None:
        # A dictionary finds nothing in vectors, and their least and greatest say nothing.
        added = added_columns(self._manifest, self._job.options.prefix)
        others = [name for name in table.column_names if name not in added]
        parquet.write_table(
            table, path, compression="zstd", use_dictionary=others, write_statistics=others
        )


def answer_columns(rows: FloatArray, manifest: Manifest) -> list[Any]:
    """Vectors [n, d], or scores [n, labels], as Arrow columns; see `added_columns`."""
    listed = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    if manifest.task == "embedding" or manifest.problem_type == "regression":
        return [listed]
    winners = rows.argmax(axis=1) if len(rows) else np.empty(0, np.int64)
    labels = pa.array([manifest.labels[winner] for winner in winners], pa.string())
    return [labels, pa.array(rows[np.arange(len(rows)), winners]), listed]


def remove_unfinished(out: Path) -> None:
    """What a run that was killed was writing; call it while no other run writes."""
    for path in (out / JOB_FOLDER).glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def write_failed(out: Path, job: Job, path: Path) -> int:
    """All failed rows, a JSON object a line, in the order of the inputs; returns how many."""
    failed = 0
    beside = _beside(out / JOB_FOLDER, path)
    with beside.open("wb") as file:
        for part in job.parts:
            name = str(job.inputs[part.source].path)
            for row, code, message in read_record(out, job, part).failed:
                said = {"file": name, "row": row + 1, "code": code, "reason": message}
                file.write(orjson.dumps(said) + b"\n")
                failed += 1
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return failed


def _record_file(out: Path, job: Job, part: Part) -> Path:
    return out / JOB_FOLDER / f"{job.part_name(part)}.json"


def _beside(folder: Path, target: Path) -> Path:
    """A name of its own: on a cluster a part may be written twice at the same time."""
    return folder / f"{target.name}.{uuid4().hex}{TEMPORARY_SUFFIX}"
