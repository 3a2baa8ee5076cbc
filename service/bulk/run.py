"""A job from begin to end in this process: cut, encode part by part, sum up."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.bulk.cutting import choose_column, cut
from service.bulk.encoding import Advance, TextEncoder, Tokens, check_options
from service.bulk.inputs import find_inputs
from service.bulk.job import (
    Input,
    Job,
    ModelUsed,
    Options,
    Part,
    alone_in,
    read_job,
    require_same,
    write_job,
)
from service.bulk.lines import unreadable
from service.bulk.reading import PartRows, Reader
from service.bulk.summary import Summary, withdraw_summary, write_summary
from service.bulk.writing import (
    PartWriter,
    is_done,
    remove_unfinished,
    require_new_columns,
)
from service.errors import DatasetInvalid
from service.loading import Plan, check_published
from service.runtime.session import ENCODERS, open_session
from service.runtime.tokenizer import Tokenizer
from service.settings import Settings
from service.store.files import sha256_of
from service.store.locks import writing
from service.store.manifest import TOKENIZER_FILE
from service.store.verification import require_unchanged


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    given: a file, a folder or a pattern. column: None lets it be found.
    """

    given: str
    out: Path
    plan: Plan
    column: str | None
    options: Options


# Shows a phase of so many rows, of which some are done, and is told of further ones.
Show = Callable[[str, int, int], AbstractContextManager[Advance]]
Work = Callable[[Asked, Job, Sequence[Part], Settings, Advance], float]


def run_job(asked: Asked, settings: Settings, show: Show, work: "Work | None" = None) -> Summary:
    """Begin a job or go on with it, to its end.

    Args:
        work: encodes what is left to do, and tells in how many seconds; without it this process.

    Raises:
        InvalidField, DatasetInvalid: it cannot be begun, or was begun otherwise.
        StoreError: the model cannot be used.
        StoreUnwritable: the disk is full.
    """
    work = work or encode_here
    with writing(asked.out), alone_in(asked.out):
        job = begin(asked, settings, show)
        todo = left_to_do(asked.out, job)
        left = sum(part.rows for part in todo)
        seconds = 0.0
        if todo:
            withdraw_summary(asked.out)
            with show("encode", job.rows, job.rows - left) as advance:
                seconds = work(asked, job, todo, settings, advance)
        return write_summary(asked.out, job, {part.number for part in todo}, seconds)


def encode_here(
    asked: Asked, job: Job, parts: Sequence[Part], settings: Settings, advance: Advance
) -> float:
    """In this process, a run a core."""
    plan = asked.plan
    reader = Reader(job.inputs, job.options.column)
    writer = PartWriter(asked.out, job, plan.model.manifest)
    with open_encoder(plan, job, settings, plan.shape.workers) as encoder:
        return encode_parts(parts, encoder, reader, writer, advance)


def begin(asked: Asked, settings: Settings, show: Show) -> Job:
    """The job of the folder `asked.out`: that which was begun there, or a new one.

    Call it with the lock of the folder held.

    Raises:
        InvalidField, DatasetInvalid: another job was begun there, or it cannot be begun.
    """
    manifest = asked.plan.model.manifest
    paths = find_inputs(asked.given, asked.out)
    column = choose_column(paths[0], asked.column)
    options = asked.options.model_copy(update={"column": column})
    check_options(manifest, options)
    model = ModelUsed(
        name=manifest.name,
        version=manifest.version,
        variant=asked.plan.variant,
        digest=manifest.files[manifest.file_of(asked.plan.variant)].sha256,
        max_batch_tokens=asked.plan.shape.max_batch_tokens,
        max_text_chars=settings.max_text_chars,
    )
    remove_unfinished(asked.out)
    begun = read_job(asked.out)
    if begun is not None:
        require_same(begun, model, options, paths)
        for source in begun.inputs:
            _require_unchanged_input(source)
        return begun
    _require_empty(asked.out)
    withdraw_summary(asked.out)
    mebibytes = sum(path.stat().st_size for path in paths) // 2**20
    with show("look through, MiB", max(1, mebibytes), 0) as advance:
        inputs, parts = cut(paths, column, options.part_rows, advance)
    job = Job(model=model, options=options, inputs=inputs, parts=parts)
    require_new_columns(job, manifest)
    write_job(asked.out, job)
    return job


def _require_unchanged_input(source: Input) -> None:
    """Its bytes are read again only where its time of change is another."""
    try:
        status = source.path.stat()
        same = status.st_size == source.bytes
        if same and status.st_mtime_ns != source.mtime_ns:
            same = sha256_of(source.path) == source.sha256
    except OSError as error:
        raise unreadable(source.path, error) from error
    if not same:
        raise DatasetInvalid(
            f"{source.path} has changed since the job in this folder was begun: name another "
            "folder for the output"
        )


def _require_empty(out: Path) -> None:
    """Parts of another job beside ours would be read as ours."""
    if any(out.glob("*.parquet")):
        raise DatasetInvalid(
            f"{out} holds Parquet files and no job of ours: name an empty folder for the output"
        )


def left_to_do(out: Path, job: Job) -> list[Part]:
    return [part for part in job.parts if not is_done(out, job, part)]


@contextmanager
def open_encoder(plan: Plan, job: Job, settings: Settings, workers: int) -> Iterator[TextEncoder]:
    """The model of the job, verified as the server does before it serves.

    Raises:
        StoreError, ModelFailed: as `check_published`.
    """
    stamps = check_published(plan.model, [plan.variant], settings)
    manifest = plan.model.manifest
    session = open_session(
        plan.model.file(manifest.file_of(plan.variant)),
        settings.provider,
        settings.provider_options,
        threads=plan.shape.threads,
    )
    encoder = TextEncoder(
        manifest,
        Tokenizer(plan.model.file(TOKENIZER_FILE), manifest.max_tokens),
        ENCODERS[manifest.layout](session, manifest.output, manifest.width),
        job.options,
        workers=workers,
        max_batch_tokens=job.model.max_batch_tokens,
        max_text_chars=job.model.max_text_chars,
    )
    require_unchanged(plan.model, stamps)
    with encoder:
        yield encoder


def encode_parts(
    parts: Sequence[Part],
    encoder: TextEncoder,
    reader: Reader,
    writer: PartWriter,
    advance: Advance,
) -> float:
    """Encode the parts one after the other; returns the seconds that it took.

    While one is encoded the next is read and tokenized; it is not begun before the one is on disk.

    Args:
        advance: told how many rows are done, from several threads.

    Raises:
        DatasetInvalid: an input is not what it was.
        StoreUnwritable: the disk is full.
    """

    def prepare(part: Part) -> tuple[PartRows, Tokens]:
        rows = reader.read(part)
        return rows, encoder.tokenize(rows.texts)

    started_s = time.perf_counter()
    with ThreadPoolExecutor(1, "encserve-bulk-ahead") as ahead:
        coming = ahead.submit(prepare, parts[0]) if parts else None
        for index, part in enumerate(parts):
            assert coming is not None
            rows, tokens = coming.result()
            if index + 1 < len(parts):
                coming = ahead.submit(prepare, parts[index + 1])
            encoded = encoder.encode(tokens, advance)
            writer.write(part, rows, encoded)
            advance(part.rows - len(tokens.ids))
    return time.perf_counter() - started_s
