"""What a job is: its model, its options, its inputs and how they are cut into parts.

It is written once, before anything is computed, and every later run must ask for the same.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import DatasetInvalid, InvalidField
from service.store.files import sync, write_synced

Format = Literal["parquet", "csv", "tsv", "jsonl"]
TooLong = Literal["cut", "refuse"]
# What other columns become: as they were, or one of what JSON knows.
Kind = Literal["arrow", "string", "int64", "float64", "bool", "json"]

JOB_FOLDER = "_job"
PLAN_FILE = "plan.json"
LOCK_FILE = "lock"
DEFAULT_PART_ROWS = 4096


class Part(NamedTuple):
    """A range of rows of one input, which becomes one file of the output.

    source: index of the input. first_row: from 0, in that input. offset, length: in bytes, of
    inputs that are lines; 0 of Parquet.
    """

    number: int
    source: int
    first_row: int
    rows: int
    offset: int = 0
    length: int = 0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    name: str
    kind: Kind


class Input(_Frozen):
    """One file as it was found. columns: those that every part of the output has."""

    path: Path
    format: Format
    bytes: int
    mtime_ns: int
    sha256: str
    rows: int
    columns: tuple[Column, ...]


class Options(_Frozen):
    """What a caller may say.

    column: holds the texts. dimensions: of vectors, less than the model's. prompt_name: as
    `preparing.Options`. prefix: of the columns that are added. part_rows: most rows of a part.
    """

    column: str = ""
    too_long: TooLong = "cut"
    dimensions: int | None = None
    prompt_name: str | None = None
    prefix: str = ""
    part_rows: int = DEFAULT_PART_ROWS


class ModelUsed(_Frozen):
    """digest: sha256 of the ONNX file. max_batch_tokens: batches decide the last bits of a row."""

    name: str
    version: str
    variant: str
    digest: str
    max_batch_tokens: int
    max_text_chars: int


class Job(_Frozen):
    """All that decides the bytes of the output."""

    schema_version: Literal[1] = 1
    model: ModelUsed
    options: Options
    inputs: tuple[Input, ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.inputs)

    def part_name(self, part: Part) -> str:
        """Sorted by name, parts are in the order of the inputs and of their rows."""
        return f"part-{part.number:0{max(5, len(str(len(self.parts) - 1)))}}"


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """The folder `out`, made where it is missing, for no other run until the end of this one.

    Raises:
        InvalidField: another run is at work there, or it is not a folder.
    """
    try:
        (out / JOB_FOLDER).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidField(
            f"{out} is not a folder: name one for the output", param="out"
        ) from error
    with (out / JOB_FOLDER / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidField(
                f"another run is at work on {out}: wait for its end, or name another folder",
                param="out",
            ) from error
        yield


def read_job(out: Path) -> Job | None:
    """The job that was begun in the folder `out`, if there is one.

    Raises:
        DatasetInvalid: its plan is not one of ours.
    """
    path = out / JOB_FOLDER / PLAN_FILE
    try:
        return Job.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DatasetInvalid(
            f"{path} is not what `encserve bulk` writes ({type(error).__name__}): name another "
            "folder for the output"
        ) from error


def write_job(out: Path, job: Job) -> None:
    """Keep the plan; a run that is killed meanwhile leaves none."""
    folder = out / JOB_FOLDER
    beside = folder / f".{PLAN_FILE}"
    write_synced(beside, job.model_dump_json().encode() + b"\n")
    beside.replace(folder / PLAN_FILE)
    sync(folder)


def require_same(begun: Job, model: ModelUsed, options: Options, paths: list[Path]) -> None:
    """A job goes on as it was begun, or not at all.

    The budget of a run is the begun job's: a machine that was tuned otherwise gives the same bytes.

    Raises:
        InvalidField: another model, other options or other inputs are asked for.
    """
    asked = model.model_copy(update={"max_batch_tokens": begun.model.max_batch_tokens})
    changed = [*_differences(begun.model, asked), *_differences(begun.options, options)]
    if [source.path for source in begun.inputs] != paths:
        changed.append("the input files")
    if changed:
        raise InvalidField(
            f"the job in this folder was begun with other values: {', '.join(changed)}. Repeat "
            f"them (--model {begun.model.name}@{begun.model.version}) to go on, or name another "
            "folder for the output",
            param="out",
        )


def _differences(before: BaseModel, now: BaseModel) -> list[str]:
    then, later = before.model_dump(), now.model_dump()
    return [f"{name} ({then[name]!r})" for name in then if then[name] != later[name]]
