"""Versions on disk: list, resolve, publish, roll back, remove. Readers never see half a version.

<root>/<name>/<version>/    manifest.json and the files that it lists, perhaps manifest.sig
<root>/<name>/current       the version served by default, as text
<root>/<name>/.lock         held by whoever takes a version's number or moves the pointer
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.errors import InvalidField, ModelCorrupt, ModelNotFound
from service.store.files import describe, sync, write_synced
from service.store.manifest import (
    MANIFEST_FILE,
    MODEL_NAME,
    VERSION,
    Manifest,
    ManifestFields,
    parse_manifest,
)

CURRENT_FILE = "current"
_LOCK_FILE = ".lock"
_STAGING_PREFIX = ".publishing-"
_REMOVED_PREFIX = ".removed-"


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
        if not MODEL_NAME.match(name):
            raise ModelNotFound("the store has no model of such a name")
        version = self.current(name) if version is None else version
        if not VERSION.match(version):
            raise ModelCorrupt(f"{version!r} of model {name!r} is no version: they are numbers")
        model = read_version(self.root / name / version)
        if (model.manifest.name, model.manifest.version) != (name, version):
            raise ModelCorrupt(
                f"{model.path} holds {model.manifest.name} version {model.manifest.version}"
            )
        return model

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
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{_STAGING_PREFIX}{uuid.uuid4().hex}"
        # Held as long as this process lives: what nobody holds is a dead publisher's.
        with _locked(path.with_name(path.name + _LOCK_FILE)):
            path.mkdir()
            try:
                yield Draft(self, name, path)
            finally:
                shutil.rmtree(path, ignore_errors=True)
                path.with_name(path.name + _LOCK_FILE).unlink(missing_ok=True)

    def version_before(self, name: str) -> str:
        """The newest version before the current one.

        Raises:
            ModelNotFound: there is none.
        """
        current = self.resolve(name).manifest.version
        older = [version for version in self.versions(name) if int(version) < int(current)]
        if not older:
            raise ModelNotFound(f"model {name!r} has no version before {current}")
        return older[-1]

    def set_current(self, name: str, version: str) -> PublishedModel:
        """Serve `version` by default from now on.

        Raises:
            ModelNotFound, ManifestInvalid, ModelCorrupt: it cannot be.
        """
        model = self.resolve(name, version)
        with _locked(self.root / name / _LOCK_FILE):
            self._point(name, version)
        return model

    def roll_back(self, name: str) -> PublishedModel:
        """Serve the newest version before the current one. Raises as `version_before`."""
        return self.set_current(name, self.version_before(name))

    def collect(self, name: str, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions and the current one; returns what was removed.

        What publishers left behind when they were killed goes, too.
        """
        folder = self.root / name
        with _locked(folder / _LOCK_FILE):
            current = self.current(name)
            versions = self.versions(name)
            removed = [one for one in versions[: len(versions) - keep] if one != current]
            for version in removed:
                # Renamed first: a reader finds all of a version, or none.
                (folder / version).rename(folder / f"{_REMOVED_PREFIX}{uuid.uuid4().hex}")
            sync(folder)
        for path in folder.glob(f"{_REMOVED_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in folder.glob(f"{_STAGING_PREFIX}*"):
            _remove_if_abandoned(path)
        return removed

    def _point(self, name: str, version: str) -> None:
        """Move the pointer; call with the model's lock held."""
        folder = self.root / name
        pointer = folder / f"{_STAGING_PREFIX}{CURRENT_FILE}-{uuid.uuid4().hex}"
        try:
            write_synced(pointer, version.encode())
            pointer.rename(folder / CURRENT_FILE)
        finally:
            pointer.unlink(missing_ok=True)
        sync(folder)

    def current(self, name: str) -> str:
        """The version served by default.

        Raises:
            ModelNotFound: there is no such model.
        """
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
            path.relative_to(self.path).as_posix(): describe(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        for folder in filter(Path.is_dir, self.path.rglob("*")):
            sync(folder)
        model_folder = self.repository.root / self.name
        with _locked(model_folder / _LOCK_FILE):
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
            sync(self.path)
            folder = model_folder / version
            self.path.rename(folder)
            sync(model_folder)
            self.repository._point(self.name, version)
        return PublishedModel(folder, manifest)


def read_version(folder: Path) -> PublishedModel:
    """The version that `folder` holds; its files are not yet verified.

    Raises:
        ModelNotFound: there is no manifest.
        ManifestInvalid: it cannot be read.
    """
    try:
        return PublishedModel(folder, parse_manifest((folder / MANIFEST_FILE).read_bytes()))
    except OSError as error:
        raise ModelNotFound(f"{folder} holds no published model") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all processes, until the end of the block or of the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a draft, its lock, or a pointer, unless its publisher lives."""
    lock = path if path.name.endswith(_LOCK_FILE) else path.with_name(path.name + _LOCK_FILE)
    with suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
