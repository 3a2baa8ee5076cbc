"""How much of each trial is run: all of it by `make chaos`, a cut of it by `make test`."""

import os
from typing import TypeVar

Size = TypeVar("Size", int, float, str)

FULL = os.environ.get("CHAOS") == "full"


def size(full: Size, cut: Size) -> Size:
    """`full` where the variable CHAOS is set to "full", else `cut`."""
    return full if FULL else cut
