"""How much of each trial is run: all of it by `make chaos`, a cut of it by `make test`."""

import os
from typing import TypeVar

Size = TypeVar("Size", int, float, str)


def size(full: Size, cut: Size) -> Size:
    """`full` where the variable CHAOS is set to "full", else `cut`."""
    return full if os.environ.get("CHAOS") == "full" else cut
