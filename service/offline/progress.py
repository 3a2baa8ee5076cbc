"""What a long job shows: its step, the loss and the time left; plain lines where no one looks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

LINES_PER_PHASE = 10
SHOWN_FROM_S = 60


class Progress:
    """A bar for each phase of a job; on anything but a terminal, a line every tenth of a phase."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    @classmethod
    def silent(cls) -> "Progress":
        """For all but the first of several processes."""
        return cls(Console(quiet=True))

    @contextmanager
    def phase(self, description: str, total: int, *, done: int = 0) -> Iterator["Phase"]:
        """A phase of `total` steps, of which some may be done already."""
        with self._bars:
            yield Phase(self._bars, self._console, description, total, done)

    def say(self, message: str) -> None:
        # As it stands: a file's or a label's name may hold square brackets.
        self._console.print(message, highlight=False, markup=False)


class Phase:
    """Counts the steps of one phase."""

    def __init__(
        self, bars: Bars, console: Console, description: str, total: int, done: int
    ) -> None:
        self._bars = bars
        self._console = console
        self._description = description
        self._total = total
        self._done = done
        self._began = done
        self._started_s = time.monotonic()
        self._task = bars.add_task(description, total=total, completed=done, note="")

    def advance(self, note: str = "", steps: int = 1) -> None:
        """So many steps are done; `note` is shown beside the bar, such as the loss."""
        self._done += steps
        self._bars.update(self._task, advance=steps, note=note)
        line_due = self._done * LINES_PER_PHASE // self._total > (
            (self._done - steps) * LINES_PER_PHASE // self._total
        )
        if not self._console.is_terminal and line_due:
            line = f"{self._description}: {self._done}/{self._total} {note}".rstrip()
            self._console.print(f"{line}{self._left()}", highlight=False, markup=False)

    def _left(self) -> str:
        """How long the rest takes at the pace so far; nothing of what ends within seconds."""
        spent_s = time.monotonic() - self._started_s
        left_s = spent_s / (self._done - self._began) * (self._total - self._done)
        return f", {left_s / 60:.0f} min left" if left_s >= SHOWN_FROM_S else ""
