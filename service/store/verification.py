"""Is a published version what its manifest says, byte for byte, and signed by whom we trust?"""

import stat
from collections.abc import Iterator
from pathlib import Path

from service.errors import ModelCorrupt
from service.store.files import sha256_of
from service.store.manifest import MANIFEST_FILE
from service.store.repository import PublishedModel
from service.store.signing import SIGNATURE_FILE

# What a version's folder holds beside the files of the manifest.
_UNLISTED = {MANIFEST_FILE, SIGNATURE_FILE}


def verify(model: PublishedModel) -> None:
    """Prove that the folder holds exactly the files of the manifest.

    Raises:
        ModelCorrupt: a file is missing, extra, a link, or not of its size or digest.
    """
    present = dict(_entries(model.path))
    listed = model.manifest.files.keys()
    if extra := sorted(present.keys() - listed - _UNLISTED):
        raise ModelCorrupt(f"{model.path} holds files that its manifest does not list: {extra}")
    for name, path in present.items():
        _require_plain(name, path)
    for name, entry in model.manifest.files.items():
        path = model.path / name
        if name not in present:
            raise ModelCorrupt(f"{path} is missing")
        size = path.stat().st_size
        if size != entry.bytes:
            raise ModelCorrupt(f"{path} has {size} bytes, its manifest says {entry.bytes}")
        if sha256_of(path) != entry.sha256:
            raise ModelCorrupt(f"{path} is not the file that was published: its digest differs")


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything in the folder but real folders, by its path below it."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix(), path


def _require_plain(name: str, path: Path) -> None:
    """A link may point elsewhere by the time that it is read; a pipe never ends."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise ModelCorrupt(f"{path} is a link: published files are plain")
    if not stat.S_ISREG(status.st_mode):
        raise ModelCorrupt(f"{path} is not a regular file")
    if status.st_nlink > 1:
        raise ModelCorrupt(f"{path} has another name elsewhere (a hard link): copy it instead")
