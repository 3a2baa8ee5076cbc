"""The command line: `encserve serve`, and the workshop, which loads torch only when it is used."""

from rich.console import Console

from service.cli import (
    bulk,
    doctor,
    evaluation,
    exporting,
    metrics_page,
    pretraining,
    serving,
    store,
    top,
    training,
)
from service.cli.common import app
from service.errors import EncserveError

__all__ = [
    "app",
    "bulk",
    "doctor",
    "evaluation",
    "exporting",
    "main",
    "metrics_page",
    "pretraining",
    "serving",
    "store",
    "top",
    "training",
]


def main() -> None:
    """Run the command line; what we raise on purpose becomes one line and exit status 1."""
    try:
        app()
    except EncserveError as error:
        Console(stderr=True).print(f"[red]error[/red] ({error.code}): ", end="")
        # In one line: where it is wrapped, it may be in the middle of a path.
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(error.message)
        raise SystemExit(1) from None
