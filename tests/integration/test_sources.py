"""Versions from elsewhere: a folder, fsspec's memory, and a web, a hub, a bucket on loopback."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.errors import EncserveError, InvalidField, ModelCorrupt, ModelNotFound, SourceFailed
from service.sources import arrival
from service.sources.arrival import publish_from
from service.sources.places import open_place
from service.store.repository import ModelRepository, PublishedModel
from service.store.signing import SIGNATURE_FILE, check_signature, load_trusted, make_key, sign
from service.store.verification import verify
from tests.integration import artefacts as make
from tests.integration.artefacts import Damage
from tests.integration.conftest import ENCSERVE, Process
from tests.integration.source_servers import Broken, Bucket, Handler, Hub, serving


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "here")


@pytest.fixture
def there(tiny_store: Path, tmp_path: Path) -> Path:
    """A store elsewhere, whose embedding model is signed."""
    store = Path(shutil.copytree(tiny_store, tmp_path / "there"))
    make_key(tmp_path / "key")
    sign(ModelRepository(store).resolve("embedding"), tmp_path / "key")
    return store


def fetch(
    repository: ModelRepository, source: str, name: str = "embedding", **options: Any
) -> PublishedModel:
    opened = open_place(source, signed=False, hub_endpoint=options.pop("endpoint", None))
    options = {"max_bytes": 2**30} | options
    return publish_from(repository, opened, source, name, **options)


def test_version_keeps_its_number_and_its_signature_where_both_are_new(
    repository: ModelRepository, there: Path, tmp_path: Path
) -> None:
    published = fetch(repository, str(there / "embedding" / "1"))
    assert published == repository.resolve("embedding")
    verify(published)
    check_signature(published, load_trusted([tmp_path / "key.pub"]))
    original = ModelRepository(there).resolve("embedding")
    assert published.manifest_sha256 == original.manifest_sha256


def test_version_under_another_name_or_number_leaves_its_signature_behind(
    repository: ModelRepository, there: Path
) -> None:
    source = str(there / "embedding" / "1")
    fetch(repository, source)
    again, other = fetch(repository, source), fetch(repository, source, "vectors")
    assert (again.manifest.version, other.manifest.name) == ("2", "vectors")
    for model in (again, other):
        verify(model)
        assert not model.file(SIGNATURE_FILE).exists()


def test_version_that_is_here_already_is_not_published_again_if_once_is_enough(
    repository: ModelRepository, there: Path
) -> None:
    source = str(there / "embedding" / "1")
    fetch(repository, source, "vectors")
    fetch(repository, source, "vectors", once=True)
    assert repository.versions("vectors") == ["1"]


def test_version_comes_from_a_file_system_of_fsspec(
    repository: ModelRepository, there: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(there / "embedding"), "/models/embedding", recursive=True)
    try:
        verify(fetch(repository, "memory://models/embedding/1"))
    finally:
        memory.rm("/models", recursive=True)


def test_folder_of_a_model_stands_for_its_current_version(
    repository: ModelRepository, there: Path
) -> None:
    with serving(there) as url:
        verify(fetch(repository, f"{url}/embedding"))
    # Nothing is asked for but what the manifest names.
    manifest = repository.resolve("embedding").manifest
    names = {path.rpartition("/")[2] for path in Handler.asked}
    assert names == {"manifest.json", "current", SIGNATURE_FILE, *manifest.files}


def spoilt(folder: Path, damage: Damage) -> Path:
    damage(folder)
    return folder


BAD: dict[str, tuple[Damage, type[EncserveError], str]] = {
    "cut": (make.cut("model.onnx", 0.5), ModelCorrupt, "bytes at the source"),
    "longer": (make.lengthen("model.onnx"), ModelCorrupt, "longer than"),
    "changed": (make.flip("model.onnx"), ModelCorrupt, "digest"),
    "file missing": (make.remove("tokenizer.json"), ModelCorrupt, "missing at the source"),
    "no manifest": (make.remove("manifest.json"), ModelNotFound, "holds no manifest.json"),
    "endless manifest": (
        make.add("manifest.json", b" " * 2**23), ModelCorrupt, "manifest.json is longer",
    ),
    "endless signature": (make.add(SIGNATURE_FILE, b"x" * 9999), ModelCorrupt, "manifest.sig is l"),
    "file outside": (
        make.file_entry("../../x", bytes=1, sha256="0" * 64), EncserveError, "files",
    ),
}  # fmt: skip


@pytest.mark.parametrize("over_http", [False, True], ids=["folder", "http"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_not_as_it_should_be_at_the_source_is_not_published(
    repository: ModelRepository,
    there: Path,
    bad: tuple[Damage, type[EncserveError], str],
    over_http: bool,
) -> None:
    damage, error, reason = bad
    damage(there / "embedding" / "1")
    with serving(there) as url:
        source = f"{url}/embedding/1" if over_http else str(there / "embedding" / "1")
        with pytest.raises(error, match=reason):
            fetch(repository, source)
    assert [path.name for path in (repository.root / "embedding").iterdir()] == [".lock"]
    assert not any(".." in path for path in Handler.asked)


@pytest.mark.parametrize(
    "damage", [make.soft_link("model.onnx"), make.fifo("model.onnx")], ids=["link", "pipe"]
)
def test_link_or_pipe_at_the_source_is_not_followed(
    repository: ModelRepository, there: Path, damage: Damage
) -> None:
    damage(there / "embedding" / "1")
    with pytest.raises(ModelCorrupt, match=r"is a link|not a regular"):
        fetch(repository, str(there / "embedding" / "1"))


def test_more_than_allowed_is_not_even_asked_for(
    repository: ModelRepository, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(there) as url:
        with pytest.raises(InvalidField, match="the limit is 1000"):
            fetch(repository, f"{url}/embedding/1", max_bytes=1000)
        monkeypatch.setattr(arrival, "MOST_FILES", 2)
        with pytest.raises(InvalidField, match=r"holds \d files, the limit is 2"):
            fetch(repository, f"{url}/embedding/1")
    assert {path.rpartition("/")[2] for path in Handler.asked} == {"manifest.json"}


def test_version_that_does_not_pass_the_check_is_not_published(
    repository: ModelRepository, there: Path
) -> None:
    def check(model: PublishedModel) -> None:
        raise ModelCorrupt("refused by the test")

    with pytest.raises(ModelCorrupt, match="refused by the test"):
        fetch(repository, str(there / "embedding" / "1"), check=check)
    assert repository.versions("embedding") == []


def test_web_server_that_breaks_off_or_fails_is_an_error_of_one_line(
    repository: ModelRepository, there: Path
) -> None:
    with serving(there, Broken) as url:
        for path, file in (("embedding/1", "model.onnx"), ("500", "manifest.json")):
            with pytest.raises(SourceFailed, match=f"^{file} of {url}/{path} cannot be read"):
                fetch(repository, f"{url}/{path}")
    with pytest.raises(SourceFailed, match="cannot be read: ClientConnectorError"):
        fetch(repository, f"{url}/embedding/1")
    assert repository.versions("embedding") == []


def test_version_comes_from_a_hub(repository: ModelRepository, there: Path) -> None:
    with serving(there, Hub) as endpoint:
        verify(fetch(repository, "hf://org/mood", endpoint=endpoint))
        verify(fetch(repository, "hf://org/mood@v2", endpoint=endpoint))
        assert any(path.startswith("/org/mood/resolve/v2/") for path in Hub.asked)
        with pytest.raises(ModelNotFound, match="hf://org/mood@v3 holds no manifest"):
            fetch(repository, "hf://org/mood@v3", endpoint=endpoint)
        with pytest.raises(SourceFailed, match="hf://org/gated"):
            fetch(repository, "hf://org/gated", endpoint=endpoint)
    assert repository.versions("embedding") == ["1", "2"]


def run(store: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ENCSERVE_MODEL_STORE": str(store)} | variables
    return subprocess.run(
        [*ENCSERVE, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_version_comes_from_a_bucket(repository: ModelRepository, there: Path) -> None:
    pytest.importorskip("s3fs")
    with serving(there, Bucket) as endpoint:
        made = run(
            repository.root,
            "publish",
            "s3://bucket/embedding/1",
            "embedding",
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID="nobody",
            AWS_SECRET_ACCESS_KEY="nothing",
            AWS_DEFAULT_REGION="us-east-1",
        )
    assert made.returncode == 0, made.stderr
    verify(repository.resolve("embedding"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("http://models.example/embedding", "not protected on its way"),
        ("ftp://models.example/embedding", "no kind of source"),
        ("simplecache::file:///etc", "no kind of source"),
        ("file:///etc", "no kind of source"),
        ("hf://org", "written hf://org/name"),
        ("hf://org/name/more", "written hf://org/name"),
    ],
)
def test_source_of_another_kind_is_refused(
    repository: ModelRepository, source: str, reason: str
) -> None:
    with pytest.raises(InvalidField, match=reason):
        fetch(repository, source)


def test_secrets_of_an_address_are_not_in_what_is_said_of_it(repository: ModelRepository) -> None:
    with pytest.raises(ModelNotFound) as failed:
        fetch(repository, "memory://me:hu@sh@place/a?token=hush")
    assert failed.value.message == "memory://***@place/a?*** holds no manifest.json"


def test_server_fetches_its_models_at_the_start(there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    with serving(there) as url:
        variables = {"ENCSERVE_SOURCES": f"embedding={url}/embedding,mood={url}/sentiment/1"}
        server = Process(here, os.environ | variables)
        try:
            server.announced()
        finally:
            server.close()
    assert ModelRepository(here).names() == ["embedding", "mood"]
    # The source is gone, and what is here serves; what never came ends the start.
    server = Process(here, os.environ | variables)
    try:
        server.announced()
        assert "source_failed" in server.output
    finally:
        server.close()
    server = Process(here, os.environ | {"ENCSERVE_SOURCES": f"new={url}/embedding"})
    try:
        assert server.popen.wait(timeout=30) == 1
    finally:
        server.close()
    assert "error (source_failed)" in server.output
    assert "Traceback" not in server.output


def test_version_that_is_renamed_is_signed_anew_before_it_serves(
    there: Path, tmp_path: Path
) -> None:
    here, key = tmp_path / "here", tmp_path / "key"
    policy = {"ENCSERVE_SIGNATURES": "require", "ENCSERVE_TRUSTED_KEYS": f"{key}.pub"}
    source = str(there / "embedding" / "1")
    made = run(here, "publish", source, "vectors", "--key", str(key), **policy)
    assert made.returncode == 0, made.stderr
    assert run(here, "verify", **policy).stdout == "every version is whole\n"
    kept = run(here, "publish", source, "vectors", "--keep-current", **policy)
    assert kept.returncode == 0, kept.stderr
    assert ModelRepository(here).current("vectors") == "1"
    unsigned = run(here, "rollback", "vectors", "--to", "2", **policy)
    assert (unsigned.returncode, "signature_invalid" in unsigned.stderr) == (1, True)
    assert ModelRepository(here).current("vectors") == "1"
