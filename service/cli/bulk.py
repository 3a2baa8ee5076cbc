"""`encserve bulk`: a column of large files through a model."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from service.bulk.job import DEFAULT_PART_ROWS, Options, TooLong
from service.cli.common import Store, app, examples, settings_of
from service.errors import WorkshopError
from service.offline.progress import Progress
from service.store.repository import ModelRepository, name_and_version

if TYPE_CHECKING:
    from service.bulk.run import Work
    from service.bulk.summary import Summary

AUTO = "auto"


class _OptionalAddress(typer.core.TyperCommand):
    """`--ray` without an address takes the cluster that this machine is part of."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        followers = [*args[1:], "--"]
        pairs = zip(list(args), followers, strict=True)
        args = [
            f"--ray={AUTO}" if arg == "--ray" and follower.startswith("-") else arg
            for arg, follower in pairs
        ]
        return super().parse_args(ctx, args)


@app.command(
    cls=_OptionalAddress,
    epilog=examples(
        "encserve bulk reviews.parquet out --model sentiment",
        "encserve bulk 'texts/*.jsonl' out --model embedding --column body --dimensions 128",
        "encserve bulk texts out --model embedding --ray auto",
    ),
)
def bulk(
    given: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="File, folder or pattern: .parquet, .csv, .tsv or .jsonl."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for what comes of it.")],
    model: Annotated[str, typer.Option(help="NAME, or NAME@VERSION.")],
    column: Annotated[
        str | None, typer.Option(help="Holds the texts. (default: text, or the only one)")
    ] = None,
    too_long: Annotated[
        str, typer.Option(help="What becomes of longer texts than the model reads: cut or refuse.")
    ] = "cut",
    dimensions: Annotated[
        int | None, typer.Option(help="Cut vectors to so many. (default: all)")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt. (default: its own default)")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of added columns.")] = "",
    part_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows of a file of the output. (default 4096)"),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="fp32 or int8. (env ENCSERVE_VARIANT, default the fastest)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs side by side. (env ENCSERVE_WORKERS)")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Work on a Ray cluster: host:port, auto for the one that this machine belongs to "
            "(also without an address), or local.",
        ),
    ] = None,
    model_store: Store = None,
) -> None:
    """Embed or classify a column of files of any size; killed and run again, it goes on.

    OUT gets a Parquet file for each range of rows, with the columns of the input and those that
    the model adds, _failed.jsonl with the rows that cannot be encoded, and _summary.json.
    """
    _require("pyarrow", "bulk")
    from service.bulk.run import Asked, run_job
    from service.loading import plan

    settings = settings_of(model_store=model_store, variant=variant, workers=workers)
    options = Options(
        too_long=_too_long(too_long),
        dimensions=dimensions,
        prompt_name=prompt,
        prefix=prefix,
        part_rows=part_rows or DEFAULT_PART_ROWS,
    )
    published = ModelRepository(settings.model_store).resolve(*name_and_version(model))
    asked = Asked(given, out, plan(published, settings), column, options)
    _say(run_job(asked, settings, _show, _on_cluster(ray) if ray else None), out)


def _on_cluster(address: str) -> "Work":
    _require("ray", "ray")
    from service.bulk.cluster import Cluster

    return Cluster(address)


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise WorkshopError(
            f"this needs the extra {extra!r} ({package} is not installed): "
            f"pip install 'encserve[{extra}]'"
        )


def _too_long(word: str) -> TooLong:
    if word not in get_args(TooLong):
        raise typer.BadParameter("cut or refuse", param_hint="--too-long")
    return cast(TooLong, word)


@contextmanager
def _show(description: str, rows: int, done: int) -> Iterator[Callable[[int], None]]:
    lock = Lock()
    with Progress().phase(description, rows, done=done) as phase:

        def advance(more: int) -> None:
            with lock:
                phase.advance(steps=more)

        yield advance


def _say(summary: "Summary", out: Path) -> None:
    typer.echo(
        f"{summary.rows_out} of {summary.rows_in} rows in {out} ({summary.failed} failed, "
        f"{summary.resumed} done before); {summary.seconds:.1f} s, "
        f"{summary.texts_per_s:.1f} texts/s, {summary.computed_tokens} tokens"
    )
