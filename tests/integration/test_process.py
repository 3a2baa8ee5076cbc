"""`encserve` as a process of its own: start, announce, answer, end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from service.store.repository import ModelRepository
from tests.integration.conftest import ENCSERVE, Process

REQUEST = b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = re.compile(rb"HTTP/1.1 200 .*\r\n\r\n", re.DOTALL)


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


@pytest.mark.parametrize(
    ("sent", "at_start", "status", "drain_s"),
    [
        (signal.SIGTERM, signal.SIG_DFL, 0, "0"),
        # Whoever sends SIGINT sits at a terminal, and waits for no balancer.
        (signal.SIGINT, signal.SIG_DFL, 130, "60"),
        # As a script starts what it leaves in the background.
        (signal.SIGINT, signal.SIG_IGN, 130, "60"),
    ],
)
def test_signal_ends_the_process_in_order(
    tiny_store: Path, sent: signal.Signals, at_start: signal.Handlers, status: int, drain_s: str
) -> None:
    usual = signal.signal(sent, at_start)
    try:
        process = Process(tiny_store, os.environ | {"ENCSERVE_DRAIN_S": drain_s})
    finally:
        signal.signal(sent, usual)
    try:
        url = process.announced()[1]
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert process.end(sent) == status
    finally:
        process.close()
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="new connection"),
        pytest.param(REQUEST, id="idle connection"),
        pytest.param(REQUEST + REQUEST[:20], id="half a header"),
    ],
)
def test_what_came_while_the_process_stood_still_is_answered(
    tiny_store: Path, before: bytes
) -> None:
    """As a paused machine does it: every deadline has passed when it goes on."""
    deadlines = {"ENCSERVE_KEEP_ALIVE_S": "1", "ENCSERVE_HEADER_TIMEOUT_S": "1"}
    process = Process(tiny_store, os.environ | deadlines)
    try:
        port = int(process.announced()[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(before)
            if before:
                assert ANSWER.fullmatch(connection.recv(1 << 16))
            process.popen.send_signal(signal.SIGSTOP)
            connection.sendall(REQUEST[len(before) % len(REQUEST) :])
            connection.settimeout(3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            process.popen.send_signal(signal.SIGCONT)
            connection.settimeout(30)
            assert ANSWER.fullmatch(connection.recv(1 << 16))
    finally:
        process.close()


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
    assert "encserve bootstrap" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_one_changed_bit_is_refused_at_the_start(
    tmp_path: Path, tiny_store: Path, name: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    path = ModelRepository(store).resolve("sentiment").file(name)
    data = bytearray(path.read_bytes())
    # In the middle: a weight of the model, which onnxruntime would load without a word.
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = run("serve", "--model-store", str(store))
    assert result.returncode == 1
    assert "model_corrupt" in result.stderr
    assert f"{name} is not the file that was published" in result.stderr


def test_model_that_fails_its_warm_up_is_refused_at_the_start(
    tmp_path: Path, tiny_store: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    manifest = ModelRepository(store).resolve("sentiment").file("manifest.json")
    # Longer than the model has positions.
    manifest.write_text(manifest.read_text().replace('"max_tokens": 32', '"max_tokens": 64'))
    result = run("serve", "--model-store", str(store))
    assert result.returncode == 1
    assert "model_failed" in result.stderr
    assert "a text of 64 tokens" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("pointer", [b"\xff", b"1\x00", b"../../etc", b""])
def test_pointer_to_no_version_is_one_clear_line(
    tmp_path: Path, tiny_store: Path, pointer: bytes
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    (store / "sentiment" / "current").write_bytes(pointer)
    result = run("serve", "--model-store", str(store))
    assert result.returncode == 1
    assert "model_corrupt" in result.stderr
    assert "Traceback" not in result.stderr


def large_request(url: str) -> socket.socket:
    """A connection whose request keeps the tiny model busy for a while."""
    body = json.dumps({"input": [f"train {number} " * 12 for number in range(2000)]}).encode()
    connection = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=60)
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    return connection


def until_computing(url: str) -> None:
    sample = re.compile(
        r'^encserve_batch_texts_count{model="embedding",version="1"} [1-9]', re.MULTILINE
    )
    give_up_s = time.monotonic() + 20
    while not sample.search(httpx2.get(f"{url}/metrics").text):
        assert time.monotonic() < give_up_s


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
    return received


def test_request_in_flight_at_sigterm_is_answered_before_the_end(process: Process) -> None:
    url = process.announced()[1]
    with large_request(url) as connection:
        until_computing(url)
        process.popen.send_signal(signal.SIGTERM)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b'"object":"embedding"') == 2000
    assert process.popen.wait(timeout=30) == 0


@pytest.mark.parametrize("whole", [True, False])
def test_request_that_outlives_the_grace_gets_503_and_the_process_ends_in_order(
    tiny_store: Path, whole: bool
) -> None:
    # A run for each text: the request takes far longer than the way of the signal.
    slow = {"ENCSERVE_MAX_BATCH_TOKENS": "1", "ENCSERVE_WORKERS": "1"}
    process = Process(tiny_store, os.environ | slow | {"ENCSERVE_SHUTDOWN_GRACE_S": "0"})
    try:
        url = process.announced()[1]
        with (
            large_request(url) as busy,
            socket.create_connection(
                ("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=60
            ) as stalled,
        ):
            stalled.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                b"Content-Type: application/json\r\n\r\n{"
            )
            until_computing(url)
            process.popen.send_signal(signal.SIGTERM)
            answer = read_all(busy if whole else stalled)
        assert process.popen.wait(timeout=30) == 0
    finally:
        process.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in answer
    assert "Traceback" not in process.output


def test_announced_address_and_command_suit_what_is_served(tiny_store: Path) -> None:
    process = Process(
        tiny_store, os.environ | {"ENCSERVE_HOST": "0.0.0.0", "ENCSERVE_MODELS": "embedding"}
    )
    try:
        command = process.announced()[2]
        assert command.startswith("curl http://127.0.0.1:")
        result = subprocess.run(
            command, shell=True, capture_output=True, text=True, check=True, timeout=30
        )
        assert len(json.loads(result.stdout)["data"][0]["embedding"]) == 16
    finally:
        process.close()


def test_wrong_setting_is_named(tiny_store: Path) -> None:
    result = run("serve", ENCSERVE_PROT="1")
    assert result.returncode == 1
    assert "ENCSERVE_PROT" in result.stderr
    result = run("serve", ENCSERVE_MAX_BATCH_TOKENS="many")
    assert result.returncode == 1
    assert "ENCSERVE_MAX_BATCH_TOKENS" in result.stderr


def test_provider_that_onnxruntime_lacks_ends_the_start_instead_of_falling_back(
    tiny_store: Path,
) -> None:
    result = run("serve", "--model-store", str(tiny_store), ENCSERVE_PROVIDER="tensorrt")
    assert result.returncode == 1
    assert "provider_unavailable" in result.stderr
    assert "it has cpu" in result.stderr


def test_settings_are_listed_with_their_variables() -> None:
    listed = run("settings", COLUMNS="200").stdout
    assert "ENCSERVE_MAX_BATCH_TOKENS" in listed
    assert "128" in listed


def test_trial_of_a_model_keeps_no_device_id(tiny_store: Path, tmp_path: Path) -> None:
    """The process of it gets no HOME of the server's, so it is begun by hand here."""
    model = ModelRepository(tiny_store).resolve("embedding")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "service.probing", str(model.path), "fp32"]
    ran = subprocess.run([*command, str(2**33), "60"], env=env, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert [*tmp_path.rglob("*")] == []
