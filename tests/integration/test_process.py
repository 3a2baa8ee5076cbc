"""`encserve` as a process of its own: start, announce, answer, end."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx2
import pytest

from service.store.repository import ModelRepository
from tests.integration.conftest import ENCSERVE, Process


def test_announced_curl_command_works_as_printed(process: Process) -> None:
    command = process.announced()[2]
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=True, timeout=30
    )
    assert json.loads(result.stdout)["data"][0]["label"] in {"negative", "neutral", "positive"}


def test_server_process_has_not_loaded_torch(process: Process) -> None:
    process.announced()
    libraries = Path(f"/proc/{process.popen.pid}/maps").read_text()
    assert "onnxruntime" in libraries
    assert "libtorch" not in libraries


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_ends_the_process_in_order(
    process: Process, sent: signal.Signals, status: int
) -> None:
    url = process.announced()[1]
    assert httpx2.get(f"{url}/readyz").status_code == 200
    assert process.end(sent) == status
    assert "Traceback" not in process.output


def test_text_of_a_caller_is_in_no_log_line_and_no_metric(process: Process) -> None:
    url = process.announced()[1]
    canary = "xyzzycanary"
    for body in (f'{{"input": "{canary}"}}', f'{{"{canary}": 1}}', canary):
        httpx2.post(
            f"{url}/v1/sentiment", content=body, headers={"Content-Type": "application/json"}
        )
    httpx2.get(f"{url}/{canary}")
    assert canary not in httpx2.get(f"{url}/metrics").text
    process.end(signal.SIGTERM)
    assert canary not in process.output


def test_server_writes_no_file_of_its_own_and_keeps_no_device_id(
    tmp_path: Path, tiny_store: Path
) -> None:
    # Bare variables: on a machine that calls itself CI, onnxruntime would not report anyway.
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    process = Process(tiny_store, env=bare)
    try:
        url = process.announced()[1]
        assert httpx2.post(f"{url}/v1/sentiment", json={"input": "good"}).status_code == 200
        process.end(signal.SIGTERM)
    finally:
        process.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENCSERVE, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | variables,
    )


def test_empty_store_is_one_clear_line_and_not_a_traceback(tmp_path: Path) -> None:
    result = run("serve", "--model-store", str(tmp_path / "none"))
    assert result.returncode == 1
    assert "encserve bootstrap" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


def test_damaged_model_is_refused_at_the_start(tmp_path: Path, tiny_store: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    with ModelRepository(store).resolve("sentiment").file("model.onnx").open("r+b") as file:
        file.write(b"\x00")
    result = run("serve", "--model-store", str(store))
    assert result.returncode == 1
    assert "model_corrupt" in result.stderr


def test_wrong_setting_is_named(tiny_store: Path) -> None:
    result = run("serve", ENCSERVE_PROT="1")
    assert result.returncode == 2
    assert "ENCSERVE_PROT" in result.stderr
    result = run("serve", ENCSERVE_MAX_BATCH_TOKENS="many")
    assert result.returncode == 2
    assert "max_batch_tokens" in result.stderr


def test_settings_are_listed_with_their_variables() -> None:
    listed = run("settings", COLUMNS="200").stdout
    assert "ENCSERVE_MAX_BATCH_TOKENS" in listed
    assert "128" in listed
