"""Versions that are being written, beside those that readers see, until a rename shows them."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from service.store.files import describe, require_plain, sync, write_synced
from service.store.locks import LOCK_FILE, STAGING_PREFIX, locked
from service.store.manifest import MANIFEST_FILE, VERSION, Manifest, ManifestFields
from service.store.published import PublishedModel, read_version

CURRENT_FILE = "current"


@dataclass(frozen=True)
class Draft:
    """A version of model `name` that is being written.

    folder: the model's. path: where the files of the version go.
    """

    folder: Path
    name: str
    path: Path

    def publish(self, fields: ManifestFields, *, current: bool = True) -> PublishedModel:
        """Hash, sync, rename, then point `current` at the new version.

        Everything is on disk before the rename makes it visible, and the pointer moves last:
        a crash at any moment leaves the old version current and whole.

        Args:
            current: False leaves the pointer where it is, for a version that is to be tried first.

        Raises:
            ModelCorrupt: the folder holds a link, a pipe or a device.
            StoreUnwritable: as `ModelRepository.draft`.
        """
        files = {
            path.relative_to(self.path).as_posix(): describe(path)
            for path in sorted(self.path.rglob("*"))
            if not path.is_dir()
        }
        for folder in filter(Path.is_dir, self.path.rglob("*")):
            sync(folder)
        with locked(self.folder / LOCK_FILE):
            existing = versions_in(self.folder)
            version = str(int(existing[-1]) + 1) if existing else "1"
            manifest = Manifest(
                **dict(fields),
                name=self.name,
                version=version,
                created_at=datetime.now(UTC),
                files=files,
            )
            data = manifest.model_dump_json(indent=2).encode()
            write_synced(self.path / MANIFEST_FILE, data)
            sync(self.path)
            folder = self.folder / version
            self.path.rename(folder)
            sync(self.folder)
            if current:
                point(self.folder, version)
        return PublishedModel(folder, manifest, sha256(data).hexdigest())

    def publish_as_it_is(self, *, current: bool = True) -> PublishedModel | None:
        """Publish a version that came whole, manifest, signature and all, under its own number.

        Returns None if it is of another name, or not newer than all that is here. Raises as
        `publish`; the files were verified by the caller.
        """
        model = read_version(self.path)
        manifest = model.manifest
        for path in sorted(self.path.rglob("*"), reverse=True):
            if not path.is_dir():
                require_plain(path, path.lstat())
            sync(path)
        sync(self.path)
        with locked(self.folder / LOCK_FILE):
            newest = max(map(int, versions_in(self.folder)), default=0)
            if manifest.name != self.name or int(manifest.version) <= newest:
                return None
            folder = self.folder / manifest.version
            self.path.rename(folder)
            sync(self.folder)
            if current:
                point(self.folder, manifest.version)
        return PublishedModel(folder, manifest, model.manifest_sha256)


def versions_in(folder: Path) -> list[str]:
    """The versions in a model's folder, oldest first."""
    names = (path.name for path in folder.glob("[1-9]*"))
    return sorted(filter(VERSION.fullmatch, names), key=int)


def point(folder: Path, version: str) -> None:
    """Move a model's pointer; call with the model's lock held."""
    pointer = folder / f"{STAGING_PREFIX}{CURRENT_FILE}-{uuid.uuid4().hex}"
    try:
        write_synced(pointer, version.encode())
        pointer.rename(folder / CURRENT_FILE)
    finally:
        pointer.unlink(missing_ok=True)
    sync(folder)
