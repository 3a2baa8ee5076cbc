"""Which files a job reads: what the command line names, each once, none of the output."""

from glob import glob, has_magic
from pathlib import Path

from service.bulk.job import Format
from service.errors import DatasetInvalid, InvalidField

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# Names that readers of a folder pass over: hidden ones, and what jobs write beside their rows.
_PASSED_OVER = (".", "_")


def find_inputs(given: str, out: Path) -> list[Path]:
    """The file, the files of the folder and those below it, or those that the pattern meets.

    In order of their paths, each once, under whatever names it is found. Below what is named,
    files and folders whose names begin with `.` or `_` are passed over, and so is `out`.

    Raises:
        DatasetInvalid: there is none, or they are not all of one known format.
        InvalidField: the input lies in the output, or the output in the folder that is named.
    """
    named = Path(given)
    if named.is_file():
        top, found = named.parent, [named]
    elif named.is_dir():
        top = named
        found = [one for one in named.rglob("*") if one.suffix.lower() in FORMATS and one.is_file()]
    else:
        top = _above_pattern(named)
        found = [Path(one) for one in glob(given, recursive=True)]
    inside = out.resolve()
    _require_apart(given, named if named.is_dir() else top, inside, whole=named.is_dir())
    paths = sorted(
        {
            one.resolve()
            for one in found
            if not any(part.startswith(_PASSED_OVER) for part in one.relative_to(top).parts)
            and not one.resolve().is_relative_to(inside)
        }
    )
    formats = {FORMATS.get(one.suffix.lower()) for one in paths}
    if len(formats) != 1 or None in formats:
        raise DatasetInvalid(
            f"{given} has to be a file, a folder or a pattern of files of one kind: "
            f"{', '.join(FORMATS)}; compressed ones have to be unpacked"
        )
    return paths


def _above_pattern(pattern: Path) -> Path:
    """The folder before the first part that may stand for several."""
    top = pattern
    while has_magic(str(top)):
        top = top.parent
    return top


def _require_apart(given: str, top: Path, out: Path, *, whole: bool) -> None:
    """Rows that come out must never be taken for rows that go in, in this run or the next.

    Args:
        whole: all below `top` is asked for, not only what a pattern meets.
    """
    top = top.resolve()
    if top.is_relative_to(out) or (whole and out.is_relative_to(top)):
        raise InvalidField(
            f"input {given} and output {out} lie inside one another: name a folder for the output "
            "that is beside the input",
            param="out",
        )
