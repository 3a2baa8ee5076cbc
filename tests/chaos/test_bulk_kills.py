"""A bulk job that is killed at random moments, again and again, until it is done."""

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from service import cli
from tests.chaos.sizes import size
from tests.conftest import SENTENCES
from tests.integration.conftest import until

KILLS = size(20, 2)
ROWS = size(4000, 1500)
PART_ROWS = 50
TEXTS = [f"{SENTENCES[number % 4]} {number}" for number in range(ROWS)]


def options(store: Path) -> list[str]:
    return ["--model", "embedding", "--part-rows", str(PART_ROWS), "--model-store", str(store)]


def begin(source: Path, out: Path, store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service.cli", "bulk", str(source), str(out)]
    return subprocess.Popen(
        [*command, *options(store)],
        env={**os.environ, "ENCSERVE_PROBE": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """The parts that are there: which file, and when it was last changed."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("*.parquet")
    }


def kill_at_random(child: subprocess.Popen[bytes], out: Path, chance: random.Random) -> None:
    """Some parts further than it began, at any moment of the next; or before its first one."""
    wanted = len(finished(out)) + chance.randrange(ROWS // PART_ROWS // KILLS)
    until(lambda: child.poll() is not None or len(finished(out)) >= wanted)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=chance.uniform(0, 0.05))
    child.kill()
    child.wait()


def test_job_that_is_killed_at_random_has_every_row_once_and_computes_no_part_twice(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("".join(f"{line}\n" for line in ["text", *TEXTS]))
    out = tmp_path / "out"
    chance = random.Random(11)
    before: dict[str, tuple[int, int]] = {}
    in_work = 0
    for _ in range(KILLS):
        child = begin(source, out, tiny_store)
        kill_at_random(child, out, chance)
        now = finished(out)
        assert {name: now[name] for name in before} == before
        in_work += len(before) < len(now) < ROWS // PART_ROWS
        before = now
    assert begin(source, out, tiny_store).wait() == 0
    assert in_work > KILLS // 3
    now = finished(out)
    assert {name: now[name] for name in before} == before
    assert parquet.read_table(out).column("text").to_pylist() == TEXTS
    whole = ["bulk", str(source), str(tmp_path / "whole"), *options(tiny_store)]
    monkeypatch.setenv("ENCSERVE_PROBE", "false")
    assert CliRunner().invoke(cli.app, whole).exit_code == 0
    for path in (tmp_path / "whole").glob("*.parquet"):
        assert (out / path.name).read_bytes() == path.read_bytes()
