"""Versions on disk: list, resolve, verify, publish. Readers never see half a version.

<root>/<name>/<version>/    manifest.json and the files that it lists, nothing else
<root>/<name>/current       the version served by default, as text
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.errors import InvalidField, ModelCorrupt, ModelNotFound
from service.store.manifest import (
    MANIFEST_FILE,
    MODEL_NAME,
    VERSION,
    FileEntry,
    Manifest,
    ManifestFields,
    parse_manifest,
)

CURRENT_FILE = "current"
_STAGING_PREFIX = ".publishing-"


@dataclass(frozen=True)
class PublishedModel:
    """One version: its folder and what its manifest says."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        return self.path / name


class ModelRepository:
    """The model store below `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models that have a current version, in alphabetical order."""
        return sorted(pointer.parent.name for pointer in self.root.glob(f"*/{CURRENT_FILE}"))

    def versions(self, name: str) -> list[str]:
        """Published versions of `name`, oldest first."""
        folders = [path for path in (self.root / name).glob("[1-9]*") if path.name.isdigit()]
        return sorted((path.name for path in folders), key=int)

    def resolve(self, name: str, version: str | None = None) -> PublishedModel:
        """The current version of `name`, or the one asked for; its files are not yet verified.

        Raises:
            ModelNotFound: there is no such model or version.
            ManifestInvalid: its manifest cannot be read.
        """
        version = version or self._current(name)
        if not VERSION.match(version):
            raise ModelCorrupt(f"{version!r} of model {name!r} is no version: they are numbers")
        folder = self.root / name / version
        try:
            manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes())
        except OSError as error:
            raise ModelNotFound(f"{folder} holds no published model") from error
        if (manifest.name, manifest.version) != (name, folder.name):
            raise ModelCorrupt(f"{folder} holds {manifest.name} version {manifest.version}")
        return PublishedModel(folder, manifest)

    @contextmanager
    def draft(self, name: str) -> Iterator["Draft"]:
        """A folder to write a new version into; removed at the end unless `Draft.publish` ran.

        Raises:
            InvalidField: `name` cannot be a model's name.
        """
        if not MODEL_NAME.match(name):
            raise InvalidField(
                "a model's name has lower-case letters, digits, '.', '_' and '-', "
                "starts with a letter or digit, and is at most 64 characters long",
                param="name",
            )
        path = self.root / name / f"{_STAGING_PREFIX}{uuid.uuid4().hex}"
        path.mkdir(parents=True)
        try:
            yield Draft(self, name, path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _current(self, name: str) -> str:
        try:
            return (self.root / name / CURRENT_FILE).read_bytes().decode(errors="replace").strip()
        except OSError as error:
            raise ModelNotFound(
                f"no model {name!r} in {self.root}: make the default models with "
                "`encserve bootstrap`, or name another store with ENCSERVE_MODEL_STORE"
            ) from error


@dataclass(frozen=True)
class Draft:
    """A version that is being written; `path` is where its files go."""

    repository: ModelRepository
    name: str
    path: Path

    def publish(self, fields: ManifestFields) -> PublishedModel:
        """Hash, sync, rename, then point `current` at the new version.

        Everything is on disk before the rename makes it visible, and the pointer moves last:
        a crash at any moment leaves the old version current and whole.
        """
        files = {
            path.relative_to(self.path).as_posix(): _describe(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        model_folder = self.repository.root / self.name
        existing = self.repository.versions(self.name)
        version = str(int(existing[-1]) + 1) if existing else "1"
        manifest = Manifest(
            **dict(fields),
            name=self.name,
            version=version,
            created_at=datetime.now(UTC),
            files=files,
        )
        write_synced(self.path / MANIFEST_FILE, manifest.model_dump_json(indent=2).encode())
        _sync(self.path)
        folder = model_folder / version
        self.path.rename(folder)
        _sync(model_folder)
        pointer = model_folder / f"{_STAGING_PREFIX}{CURRENT_FILE}-{uuid.uuid4().hex}"
        write_synced(pointer, version.encode())
        pointer.rename(model_folder / CURRENT_FILE)
        _sync(model_folder)
        return PublishedModel(folder, manifest)


def verify(model: PublishedModel) -> None:
    """Prove that the folder holds exactly the files of the manifest, byte for byte.

    Raises:
        ModelCorrupt: a file is missing, extra, a link, or not of its size or digest.
    """
    present = {
        path.relative_to(model.path).as_posix()
        for path in model.path.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if extra := sorted(present - model.manifest.files.keys() - {MANIFEST_FILE}):
        raise ModelCorrupt(f"{model.path} holds files that its manifest does not list: {extra}")
    for name, entry in model.manifest.files.items():
        path = model.path / name
        if path.is_symlink() or not path.is_file():
            raise ModelCorrupt(f"{path} is missing or not a regular file")
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            raise ModelCorrupt(f"{path} is not the file that was published")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(path: Path) -> FileEntry:
    _sync(path)
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that is on disk when the call returns."""
    path.write_bytes(data)
    _sync(path)


def _sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
