"""A job that is stopped goes on, from what is whole, and only as it was begun."""

import os
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from service.bulk.encoding import TextEncoder
from service.bulk.job import alone_in
from service.errors import DatasetInvalid, InvalidField
from tests.unit.bulk_jobs import SETTINGS, TEXTS, Job, write


class Stopped(Exception):
    pass


def test_run_that_was_stopped_goes_on_and_computes_no_finished_part_again(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.csv", TEXTS)
    job(source, part_rows=8, out=tmp_path / "whole")
    encode = TextEncoder.encode
    calls = iter(range(100))

    def stop(self: TextEncoder, *args: Any) -> Any:
        if next(calls) == 3:
            raise Stopped
        return encode(self, *args)

    monkeypatch.setattr(TextEncoder, "encode", stop)
    with pytest.raises(Stopped):
        job(source, part_rows=8)
    monkeypatch.setattr(TextEncoder, "encode", encode)
    assert not (tmp_path / "out" / "_summary.json").exists()
    before = files(tmp_path / "out")
    assert len(before) == 3
    summary = job(source, part_rows=8)
    assert (summary.computed, summary.resumed) == (26, 24)
    after = files(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = job(source, part_rows=8)
    assert (again.computed, again.resumed, again.rows_out) == (0, 50, 50)


def test_summary_of_an_earlier_run_is_gone_while_another_is_under_way(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:9])
    summary = tmp_path / "out" / "_summary.json"
    job(source, part_rows=3)
    # What is refused changes nothing.
    with pytest.raises(InvalidField):
        job(source, part_rows=4)
    assert summary.exists()
    (tmp_path / "out" / "part-00001.parquet").unlink()
    seen: list[bool] = []
    encode = TextEncoder.encode

    def look(self: TextEncoder, *args: Any) -> Any:
        seen.append(summary.exists())
        return encode(self, *args)

    monkeypatch.setattr(TextEncoder, "encode", look)
    assert job(source, part_rows=3).computed == 3
    assert seen == [False]
    assert summary.exists()


def test_part_that_was_half_written_does_not_count(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.csv", TEXTS)
    job(source, part_rows=8, out=tmp_path / "whole")
    write_table = parquet.write_table

    def stop_half_way(table: Any, path: Path, **options: Any) -> None:
        write_table(table, path, **options)
        os.truncate(path, path.stat().st_size // 2)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", stop_half_way)
        with pytest.raises(Stopped):
            job(source, part_rows=8)
    assert job(source, part_rows=8).resumed == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not list((tmp_path / "out" / "_job").glob("*.tmp"))


def files(out: Path) -> dict[str, tuple[int, int]]:
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.parquet")
    }


def contents(out: Path) -> dict[str, bytes]:
    paths = [*out.glob("*.parquet"), out / "_failed.jsonl"]
    return {path.name: path.read_bytes() for path in paths}


def test_output_has_the_same_bytes_however_many_run_side_by_side(tmp_path: Path, job: Job) -> None:
    source = write(tmp_path / "in.jsonl", TEXTS)
    for workers in (1, 4):
        job(source, out=tmp_path / str(workers), settings={**SETTINGS, "workers": workers})
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_job_goes_on_only_as_it_was_begun(tmp_path: Path, job: Job) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:5])
    job(source)
    with pytest.raises(InvalidField, match=r"too_long .*--model embedding@1"):
        job(source, too_long="refuse")
    with pytest.raises(InvalidField, match="name"):
        job(source, "sentiment")
    # Another budget a run, as on another machine, changes nothing: the job keeps its own.
    assert job(source, settings={**SETTINGS, "max_batch_tokens": 32}).resumed == 5
    os.utime(source, (1, 1))
    assert job(source).resumed == 5
    source.write_text(source.read_text().replace("food", "fool"))
    with pytest.raises(DatasetInvalid, match="has changed since"):
        job(source)


def test_two_runs_do_not_work_on_one_folder(tmp_path: Path, job: Job) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:5])
    with alone_in(tmp_path / "out"), pytest.raises(InvalidField, match="another run is at work"):
        job(source)
    assert job(source).rows_out == 5
