"""Versions on disk: list, resolve, publish, roll back, remove. Readers never see half a version.

<root>/<name>/<version>/    manifest.json and the files that it lists, perhaps manifest.sig
<root>/<name>/current       the version served by default, as text
<root>/<name>/.lock         held by whoever takes a version's number or moves the pointer
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.errors import InvalidField, ModelCorrupt, ModelNotFound
from service.store.drafts import CURRENT_FILE, Draft, point, versions_in
from service.store.files import read_plain, sync
from service.store.locks import (
    LOCK_FILE,
    REMOVED_PREFIX,
    STAGING_PREFIX,
    locked,
    remove_abandoned,
    staging_lock,
    writing,
)
from service.store.manifest import MODEL_NAME, VERSION
from service.store.published import PublishedModel as PublishedModel
from service.store.published import read_version as read_version

MOST_POINTER_BYTES = 64


def name_and_version(written: str) -> tuple[str, str | None]:
    """What `NAME` or `NAME@VERSION` says; None is the current version, whichever that is."""
    name, _, version = written.partition("@")
    return name, version or None


def check_name(name: str) -> None:
    """Raises InvalidField: `name` cannot be a model's, nor that of a folder beside others'."""
    if not MODEL_NAME.fullmatch(name):
        raise InvalidField(
            "a model's name has lower-case letters, digits, '.', '_' and '-', "
            "starts with a letter or digit, and is at most 64 characters long",
            param="name",
        )


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
        return versions_in(self.root / name)

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
        check_name(name)
        folder = self.root / name
        path = folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
        with writing(folder), ExitStack() as held:
            folder.mkdir(parents=True, exist_ok=True)
            sync(self.root)
            # Under the model's lock, or `collect` could take the draft for a dead publisher's.
            with locked(folder / LOCK_FILE):
                held.enter_context(staging_lock(path))
                path.mkdir()
            try:
                yield Draft(folder, name, path)
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
        with writing(folder), locked(folder / LOCK_FILE):
            model = self.resolve(name, version)
            point(folder, version)
        return model

    def roll_back(self, name: str) -> PublishedModel:
        """Serve the newest version before the current one. Raises as `version_before`."""
        return self.set_current(name, self.version_before(name))

    def collect(self, name: str, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions and the current one; returns what was removed.

        What publishers left behind when they were killed goes, too.
        """
        folder = self._folder(name)
        with writing(folder), locked(folder / LOCK_FILE):
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
