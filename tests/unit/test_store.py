"""The store through its doors: publish, resolve, verify; with files of a few bytes."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import InvalidField, ManifestInvalid, ModelCorrupt, ModelNotFound
from service.runtime.packing import PACKED_INPUTS
from service.store.manifest import ManifestFields, Provenance, Variant
from service.store.repository import ModelRepository, PublishedModel, name_and_version
from service.store.verification import verify


def fields(**changes: object) -> ManifestFields:
    values: dict[str, object] = {
        "task": "classification",
        "inputs": PACKED_INPUTS,
        "output": "logits",
        "width": 2,
        "labels": ("negative", "positive"),
        "pooling": "mean",
        "max_tokens": 8,
        "variants": {"fp32": Variant(file="model.onnx", parity_max_abs_diff=0.0)},
        "default_variant": "fp32",
        "provenance": Provenance(base="tiny", base_sha256="0" * 64, libraries={}),
    }
    return ManifestFields.model_validate(values | changes)


def publish(
    repository: ModelRepository, name: str = "mood", weights: bytes = b"weights"
) -> PublishedModel:
    with repository.draft(name) as draft:
        (draft.path / "model.onnx").write_bytes(weights)
        (draft.path / "tokenizer.json").write_bytes(b"{}")
        (draft.path / "report").mkdir()
        (draft.path / "report" / "metrics.json").write_bytes(b"{}")
        return draft.publish(fields())


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "store")


def test_published_model_is_found_and_whole(repository: ModelRepository) -> None:
    published = publish(repository)
    found = repository.resolve("mood")
    verify(found)
    assert found == published
    assert found.manifest.labels == ("negative", "positive")
    assert set(found.manifest.files) == {"model.onnx", "tokenizer.json", "report/metrics.json"}
    assert repository.names() == ["mood"]


def test_each_publication_is_a_new_version_and_the_old_one_stays(
    repository: ModelRepository,
) -> None:
    for index in range(11):
        publish(repository, weights=bytes([index]))
    assert repository.versions("mood") == [str(version) for version in range(1, 12)]
    assert repository.resolve("mood").manifest.version == "11"
    assert repository.resolve("mood", "2").file("model.onnx").read_bytes() == b"\x01"


def test_draft_that_fails_leaves_the_store_as_it_was(repository: ModelRepository) -> None:
    publish(repository)

    def fail_half_way() -> None:
        with repository.draft("mood") as draft:
            (draft.path / "model.onnx").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert repository.versions("mood") == ["1"]
    assert sorted(path.name for path in (repository.root / "mood").iterdir()) == [
        *(".lock", "1", "current")
    ]


def test_pointer_moves_last_so_that_a_crash_keeps_the_old_version(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)
    sync = os.fsync

    def crash(descriptor: int) -> None:
        if (repository.root / "mood" / "2").exists():
            raise OSError("disk gone")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk gone"):
        publish(repository)
    assert repository.versions("mood") == ["1", "2"]
    assert repository.resolve("mood").manifest.version == "1"
    verify(repository.resolve("mood"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Mood", ".hidden", "a" * 65, "naïve"])
def test_name_that_is_not_a_plain_folder_is_refused(repository: ModelRepository, name: str) -> None:
    with pytest.raises(InvalidField), repository.draft(name):
        pass
    assert not repository.root.exists()


def test_missing_model_says_how_to_make_it(repository: ModelRepository) -> None:
    with pytest.raises(ModelNotFound, match="encserve bootstrap"):
        repository.resolve("embedding")
    assert repository.names() == []


def test_missing_version_is_not_found(repository: ModelRepository) -> None:
    publish(repository)
    with pytest.raises(ModelNotFound):
        repository.resolve("mood", "2")


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def link(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    target.write_bytes((folder / "model.onnx").read_bytes())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(target)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit flipped": flip_a_bit,
    "truncated": lambda folder: (folder / "model.onnx").write_bytes(b"weight"),
    "emptied": lambda folder: (folder / "tokenizer.json").write_bytes(b""),
    "missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "extra": lambda folder: (folder / "model.onnx.data").write_bytes(b"x"),
    "extra in a folder": lambda folder: (folder / "report" / "x.pkl").write_bytes(b"x"),
    "a link": link,
    "a link to nowhere": lambda folder: (folder / "more").symlink_to("/nonexistent"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_version_is_refused(
    repository: ModelRepository, damage: Callable[[Path], object]
) -> None:
    published = publish(repository)
    damage(published.path)
    with pytest.raises(ModelCorrupt):
        verify(repository.resolve("mood"))


LIES: dict[str, Callable[[dict[str, object]], object]] = {
    "schema_version": lambda manifest: manifest.update(schema_version=2),
    "unknown field": lambda manifest: manifest.update(surprise=1),
    "a label twice": lambda manifest: manifest.update(labels=["a", "a"]),
    "a label too few": lambda manifest: manifest.update(labels=["a"]),
    "variant without file": lambda manifest: manifest.update(default_variant="int8"),
    "file outside": lambda manifest: manifest["files"].update(  # type: ignore[attr-defined]  # JSON
        {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}
    ),
    "file not listed": lambda manifest: manifest.update(files={}),
    "not an object": lambda manifest: manifest.clear(),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_manifest_that_contradicts_itself_is_refused(
    repository: ModelRepository, lie: Callable[[dict[str, object]], object]
) -> None:
    path = publish(repository).path / "manifest.json"
    manifest = json.loads(path.read_text())
    lie(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ManifestInvalid):
        repository.resolve("mood")


def test_manifest_of_another_model_is_refused(repository: ModelRepository) -> None:
    published = publish(repository)
    other = repository.root / "other"
    other.mkdir()
    published.path.rename(other / "1")
    (other / "current").write_text("1")
    with pytest.raises(ModelCorrupt, match="mood"):
        repository.resolve("other")


def test_manifest_is_readable_json_with_all_that_the_map_promises(
    repository: ModelRepository,
) -> None:
    manifest = json.loads((publish(repository).path / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["layout"] == "packed"
    assert re.fullmatch("[0-9a-f]{64}", manifest["files"]["model.onnx"]["sha256"])
    assert manifest["files"]["model.onnx"]["bytes"] == len(b"weights")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("mood", ("mood", None)), ("mood@2", ("mood", "2")), ("mood@", ("mood", None))],
)
def test_name_may_name_a_version(written: str, meant: tuple[str, str | None]) -> None:
    assert name_and_version(written) == meant
