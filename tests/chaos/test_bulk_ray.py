"""The same job on a Ray cluster that loses a node: the same bytes. `make bulk-ray-test` runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from tests.conftest import SENTENCES

PARTS, PART_ROWS = 300, 40
TEXTS = [f"{SENTENCES[number % 4]} {number}" for number in range(PARTS * PART_ROWS)]


def test_cluster_that_loses_a_node_gives_the_same_bytes_as_one_process(
    tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("".join(f"{line}\n" for line in ["text", *TEXTS]))
    alone = ["bulk", str(source), str(tmp_path / "alone"), "--model", "embedding"]
    alone += ["--part-rows", str(PART_ROWS), "--model-store", str(tiny_store)]
    monkeypatch.setenv("ENCSERVE_PROBE", "false")
    assert CliRunner().invoke(cli.app, alone).exit_code == 0
    out = tmp_path / "cluster"
    told = [str(source), str(out), str(tiny_store), str(PART_ROWS)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.bulk_cluster", *told],
        # Else Ray takes another address of this machine for 127.0.0.1.
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    # Ray says what it likes around it.
    (said,) = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    summary = json.loads(said)
    assert summary["killed_at"] < PARTS, "the node was lost too late"
    assert summary["rows_out"] == summary["computed"] == len(TEXTS)
    names = [path.name for path in sorted((tmp_path / "alone").glob("*.parquet"))]
    assert [path.name for path in sorted(out.glob("*.parquet"))] == names
    for name in [*names, "_failed.jsonl"]:
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
