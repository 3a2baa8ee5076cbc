"""Versions on disk: list, resolve, publish, roll back, remove. Readers never see half a version.

<root>/<name>/<version>/    manifest.json and the files that it lists, perhaps manifest.sig
<root>/<name>/current       the version served by default, as text
<root>/<name>/.lock         held by whoever takes a version's number or moves the pointer
"""

import errno
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from service.errors import InvalidField, ModelCorrupt, ModelNotFound, StoreUnwritable
from service.store.files import describe, read_plain, sync, write_synced
from service.store.locks import (
    LOCK_FILE,
    REMOVED_PREFIX,
    STAGING_PREFIX,
    locked,
    remove_abandoned,
    staging_lock,
)
from service.store.manifest import (
    MANIFEST_FILE,
    MODEL_NAME,
    VERSION,
    Manifest,
    ManifestFields,
    parse_manifest,
)

CURRENT_FILE = "current"
MOST_MANIFEST_BYTES = 2**22
MOST_POINTER_BYTES = 64
# Only writing fails so, whatever it was that was written.
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@dataclass(frozen=True)
class PublishedModel:
    """One version: its folder, what its manifest says, and the digest of that file."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    def file(self, name: str) -> Path:
        return self.path / name


class ModelRepository:
    """The model store below `root`, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models that have a current version, in alphabetical order."""
        return sorted(pointer.parent.name for pointer in self.root.glob(f"*/{CURRENT_FILE}"))

    def folders(self) -> list[str]:
        """All that may hold versions: `names`, and models whose first publisher was killed."""
        return sorted(path.name for path in self.root.glob("*") if MODEL_NAME.fullmatch(path.name))

    def versions(self, name: str) -> list[str]:
        """Published versions of `name`, oldest first."""
        folders = (self.root / name).glob("[1-9]*")
        return sorted((path.name for path in folders if VERSION.fullmatch(path.name)), key=int)

    def resolve(self, name: str, version: str | None = None) -> PublishedModel:
        """The current version of `name`, or the one asked for; its files are not yet verified.

        Raises:
            ModelNotFound: there is no such model or version.
            ManifestInvalid: its manifest cannot be read.
        """
        if not MODEL_NAME.fullmatch(name):
            raise ModelNotFound("the store has no model of such a name")
        if version is None:
            return self._resolve_current(name)
        if not VERSION.fullmatch(version):
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
            StoreUnwritable: the disk is full, or the store is not this user's to write.
        """
        if not MODEL_NAME.fullmatch(name):
            raise InvalidField(
                "a model's name has lower-case letters, digits, '.', '_' and '-', "
                "starts with a letter or digit, and is at most 64 characters long",
                param="name",
            )
        folder = self.root / name
        path = folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
        with _writing(folder), ExitStack() as held:
            folder.mkdir(parents=True, exist_ok=True)
            sync(self.root)
            # Under the model's lock, or `collect` could take the draft for a dead publisher's.
            with locked(folder / LOCK_FILE):
                held.enter_context(staging_lock(path))
                path.mkdir()
            try:
                yield Draft(self, name, path)
            finally:
                shutil.rmtree(path, ignore_errors=True)

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
        folder = self._folder(name)
        with _writing(folder), locked(folder / LOCK_FILE):
            model = self.resolve(name, version)
            self._point(name, version)
        return model

    def roll_back(self, name: str) -> PublishedModel:
        """Serve the newest version before the current one. Raises as `version_before`."""
        return self.set_current(name, self.version_before(name))

    def collect(self, name: str, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions and the current one; returns what was removed.

        What publishers left behind when they were killed goes, too.
        """
        folder = self._folder(name)
        with _writing(folder), locked(folder / LOCK_FILE):
            removed = self._superseded(name, keep)
            for version in removed:
                # Renamed first: a reader finds all of a version, or none.
                (folder / version).rename(folder / f"{REMOVED_PREFIX}{uuid.uuid4().hex}")
            sync(folder)
            remove_abandoned(folder)
        return removed

    def _superseded(self, name: str, keep: int) -> list[str]:
        versions = self.versions(name)
        if not (self.root / name / CURRENT_FILE).exists():
            # A first publisher was killed before it could point: what is there may be wanted.
            return []
        current = self.current(name)
        return [one for one in versions[: max(0, len(versions) - keep)] if one != current]

    def _resolve_current(self, name: str) -> PublishedModel:
        while True:
            version = self.current(name)
            try:
                return self.resolve(name, version)
            except ModelNotFound as error:
                if version != self.current(name):
                    continue  # the pointer has moved, and the version it left was removed
                raise ModelNotFound(
                    f"{self.root / name / CURRENT_FILE} names version {version}, which is not "
                    f"there: `encserve rollback {name} --to VERSION` names another"
                ) from error

    def _point(self, name: str, version: str) -> None:
        """Move the pointer; call with the model's lock held."""
        folder = self.root / name
        pointer = folder / f"{STAGING_PREFIX}{CURRENT_FILE}-{uuid.uuid4().hex}"
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
            pointer = read_plain(self.root / name / CURRENT_FILE, MOST_POINTER_BYTES)
            return pointer.decode(errors="replace").strip()
        except OSError as error:
            raise self._no_model(name) from error

    def _folder(self, name: str) -> Path:
        """Where the versions of `name` are. Raises ModelNotFound if there is no such folder."""
        if not MODEL_NAME.fullmatch(name) or not (self.root / name).is_dir():
            raise self._no_model(name)
        return self.root / name

    def _no_model(self, name: str) -> ModelNotFound:
        return ModelNotFound(
            f"no model {name!r} in {self.root}: make the default models with "
            "`encserve bootstrap`, or name another store with ENCSERVE_MODEL_STORE"
        )


@dataclass(frozen=True)
class Draft:
    """A version that is being written; `path` is where its files go."""

    repository: ModelRepository
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
        model_folder = self.repository.root / self.name
        with locked(model_folder / LOCK_FILE):
            existing = self.repository.versions(self.name)
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
            folder = model_folder / version
            self.path.rename(folder)
            sync(model_folder)
            if current:
                self.repository._point(self.name, version)
        return PublishedModel(folder, manifest, sha256(data).hexdigest())


def read_version(folder: Path) -> PublishedModel:
    """The version that `folder` holds; its files are not yet verified.

    Raises:
        ModelNotFound: there is no manifest.
        ManifestInvalid: it cannot be read.
        ModelCorrupt: it is a link, a pipe, or far too long.
    """
    try:
        data = read_plain(folder / MANIFEST_FILE, MOST_MANIFEST_BYTES)
    except OSError as error:
        raise ModelNotFound(f"{folder} holds no published model") from error
    return PublishedModel(folder, parse_manifest(data), sha256(data).hexdigest())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full or not to be written is no surprise: say so in one line."""
    try:
        yield
    except OSError as error:
        in_store = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
        if error.errno not in _FULL_DISK and not (isinstance(error, PermissionError) and in_store):
            raise
        raise StoreUnwritable(f"{folder} cannot be written: {error.strerror}") from error
