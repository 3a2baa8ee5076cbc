"""Golden texts: what a model answered to a few texts when it was made, kept to be asked again."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from service.errors import ModelCorrupt

GOLDEN_FILE = "golden.json"


class Golden(BaseModel):
    """A text of ours, its token ids, and the graph's row for it, [width] float32, by variant.

    text: the prompt included; of a pair the first. None in files that were written before it was.
    second: the other text of a pair.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    text: str | None = None
    second: str | None = None
    token_ids: tuple[int, ...] = Field(min_length=1)
    rows: dict[str, tuple[float, ...]]


class _GoldenFile(RootModel[tuple[Golden, ...]]):
    """The whole file."""


def write_golden(path: Path, texts: Sequence[Golden]) -> None:
    path.write_text(_GoldenFile(tuple(texts)).model_dump_json() + "\n")


def read_golden(path: Path) -> tuple[Golden, ...]:
    """The golden texts of a version.

    Raises:
        ModelCorrupt: the file is not one of ours.
    """
    try:
        return _GoldenFile.model_validate_json(path.read_bytes()).root
    except (OSError, ValidationError) as error:
        raise ModelCorrupt(f"{path.name} is not what export writes") from error
