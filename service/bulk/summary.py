"""What a job came to: counted from the records of its parts, and from what this run did."""

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from service.bulk.job import JOB_FOLDER, Job
from service.bulk.writing import read_record, write_failed
from service.store.files import sync, write_synced

# Readers of a folder of Parquet pass over names that begin so.
SUMMARY_FILE = "_summary.json"
FAILED_FILE = "_failed.jsonl"


@dataclass(frozen=True)
class Summary:
    """rows_in = rows_out + failed = computed + resumed.

    computed: rows that this run took in hand. resumed: rows that earlier runs had finished.
    tokens, truncated: of all rows. computed_tokens, seconds, texts_per_s: of this run, from the
    first part that it took in hand to the last.
    """

    model: str
    version: str
    variant: str
    files: int
    parts: int
    rows_in: int
    rows_out: int
    failed: int
    failed_by_code: dict[str, int]
    truncated: int
    computed: int
    resumed: int
    tokens: int
    computed_tokens: int
    seconds: float
    texts_per_s: float


def withdraw_summary(out: Path) -> None:
    """What says that all is done goes before something is done anew."""
    (out / SUMMARY_FILE).unlink(missing_ok=True)
    sync(out)


def write_summary(out: Path, job: Job, computed: set[int], seconds: float) -> Summary:
    """Write `_failed.jsonl`, then `_summary.json`, whose presence says that all is done.

    Args:
        computed: numbers of the parts that this run has finished.
    """
    write_failed(out, job, out / FAILED_FILE)
    rows_out = truncated = tokens = computed_rows = computed_tokens = 0
    by_code: dict[str, int] = {}
    for part in job.parts:
        record = read_record(out, job, part)
        rows_out += record.out
        truncated += record.truncated
        tokens += record.tokens
        for _, code, _ in record.failed:
            by_code[code] = by_code.get(code, 0) + 1
        if part.number in computed:
            computed_rows += record.rows
            computed_tokens += record.tokens
    summary = Summary(
        model=job.model.name,
        version=job.model.version,
        variant=job.model.variant,
        files=len(job.inputs),
        parts=len(job.parts),
        rows_in=job.rows,
        rows_out=rows_out,
        failed=sum(by_code.values()),
        failed_by_code=dict(sorted(by_code.items())),
        truncated=truncated,
        computed=computed_rows,
        resumed=job.rows - computed_rows,
        tokens=tokens,
        computed_tokens=computed_tokens,
        seconds=round(seconds, 3),
        texts_per_s=round(computed_rows / seconds, 1) if seconds else 0.0,
    )
    beside = out / JOB_FOLDER / f".{SUMMARY_FILE}"
    write_synced(beside, orjson.dumps(asdict(summary), option=orjson.OPT_INDENT_2) + b"\n")
    beside.replace(out / SUMMARY_FILE)
    sync(out)
    return summary
