"""`encserve models`, publish, rollback, gc, verify, keygen and sign, from the command line."""

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.integration.conftest import ENCSERVE


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_store, tmp_path / "store")
    return tmp_path / "store"


def run(store: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ENCSERVE_MODEL_STORE": str(store)} | variables
    return subprocess.run(
        [*ENCSERVE, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_versions_are_published_listed_rolled_back_and_collected(store: Path) -> None:
    source = store / "embedding" / "1"
    for _ in range(2):
        made = run(store, "publish", str(source), "embedding")
        assert made.returncode == 0, made.stderr
    repository = ModelRepository(store)
    assert repository.current("embedding") == "3"
    verify(repository.resolve("embedding"))
    listed = run(store, "models").stdout
    assert "embedding" in listed
    assert "current" in listed
    assert "version 2 is current" in run(store, "rollback", "embedding").stdout
    assert "version 3 is current" in run(store, "rollback", "embedding", "--to", "3").stdout
    assert "removed 1, 2" in run(store, "gc", "embedding", "--keep", "1").stdout
    assert repository.versions("embedding") == ["3"]
    nothing = run(store, "rollback", "embedding")
    assert (nothing.returncode, "published_model_not_found" in nothing.stderr) == (1, True)


def test_verify_has_a_line_a_fault_and_says_so_with_its_status(store: Path) -> None:
    whole = run(store, "verify")
    assert (whole.returncode, whole.stdout) == (0, "every version is whole\n")
    for name in ("embedding", "sentiment"):
        with (store / name / "1" / "model.onnx").open("ab") as file:
            file.write(b"\0")
    broken = run(store, "verify")
    assert broken.returncode == 1
    assert [line.split(":")[0] for line in broken.stdout.splitlines()] == [
        *("embedding@1", "sentiment@1")
    ]
    assert run(store, "verify", "sentiment@1").stdout.count("\n") == 1


def test_signed_versions_are_told_from_others(store: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = run(store, "keygen", str(key))
    assert (made.returncode, key.stat().st_mode & 0o777) == (0, 0o600)
    assert run(store, "keygen", str(key)).returncode == 1
    assert run(store, "sign", "embedding", "--key", str(key)).returncode == 0
    policy = {"ENCSERVE_SIGNATURES": "require", "ENCSERVE_TRUSTED_KEYS": f"{key}.pub"}
    assert run(store, "verify", "embedding", **policy).returncode == 0
    other = run(store, "verify", "sentiment", **policy)
    assert (other.returncode, "signature_invalid" in other.stdout) == (1, True)
    # What is not signed by one we trust is not published here either.
    source = str(store / "sentiment" / "1")
    refused = run(store, "publish", source, "mood", **policy)
    assert (refused.returncode, ModelRepository(store).versions("mood")) == (1, [])
    source = str(store / "embedding" / "1")
    assert run(store, "publish", source, "vectors", **policy).returncode == 0


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(tiny_store: Path) -> Iterator[str]:
    """The tiny store behind a web server on loopback."""
    handler = functools.partial(_QuietHandler, directory=str(tiny_store))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_version_is_fetched_from_a_web_server_and_proven(
    store: Path, web: str, tiny_store: Path
) -> None:
    made = run(store, "publish", f"{web}/embedding/1", "fetched")
    assert made.returncode == 0, made.stderr
    repository = ModelRepository(store)
    fetched = repository.resolve("fetched")
    verify(fetched)
    original = ModelRepository(tiny_store).resolve("embedding")
    assert fetched.manifest.files == original.manifest.files
    assert fetched.manifest.name == "fetched"


@pytest.mark.parametrize(
    ("source", "arguments", "code"),
    [
        ("/embedding/7", [], "published_model_not_found"),
        ("/embedding/1", ["--max-gib", "0.001"], None),
        ("gopher://x/y", [], "invalid_field"),
        ("/no/such/folder", [], "published_model_not_found"),
    ],
)
def test_source_that_holds_no_version_publishes_nothing(
    store: Path, web: str, source: str, arguments: list[str], code: str | None
) -> None:
    url = web + source if source.startswith("/embedding") else source
    made = run(store, "publish", url, "fetched", *arguments)
    assert made.returncode == (1 if code else 0), made.stderr
    assert code is None or code in made.stderr
    assert "Traceback" not in made.stderr
    versions = ModelRepository(store).versions("fetched")
    assert versions == ([] if code else ["1"])


def test_file_that_differs_at_the_source_publishes_nothing(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    ways: list[tuple[Callable[[Path], object], str]] = [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its manifest says"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "longer than"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "digest"),
        (lambda path: path.unlink(), "missing at the source"),
    ]
    for spoil, reason in ways:
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(store / "embedding" / "1", source)
        spoil(source / "tokenizer.json")
        made = run(store, "publish", str(source), "fetched")
        assert made.returncode == 1
        assert reason in made.stderr
    assert ModelRepository(store).versions("fetched") == []


class _HubHandler(_QuietHandler):
    """As a hub answers for the files of acme/vectors: the folder of a version."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/acme/vectors/resolve/main", "/embedding/1"))

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
        super().end_headers()


def test_version_is_fetched_from_a_hub(store: Path, tiny_store: Path, tmp_path: Path) -> None:
    handler = functools.partial(_HubHandler, directory=str(tiny_store))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub")}
        made = run(store, "publish", "hf://acme/vectors@main", "fetched", **hub)
        missing = run(store, "publish", "hf://acme/nothing", "other", **hub)
        server.shutdown()
        thread.join()
    assert made.returncode == 0, made.stderr
    verify(ModelRepository(store).resolve("fetched"))
    assert (missing.returncode, "published_model_not_found" in missing.stderr) == (1, True)
