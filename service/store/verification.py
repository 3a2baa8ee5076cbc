"""Is a published version what its manifest says, byte for byte? And is it still?"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import ModelCorrupt
from service.store.files import open_plain, require_plain
from service.store.manifest import MANIFEST_FILE, FileEntry
from service.store.repository import PublishedModel
from service.store.signing import SIGNATURE_FILE

# What a version's folder holds beside the files of the manifest.
_UNLISTED = {MANIFEST_FILE, SIGNATURE_FILE}

# Device, inode, bytes, time of the last change in ns, by the file's name: no write leaves all four
# as they were, as the time is the kernel's.
Stamps = Mapping[str, tuple[int, int, int, int]]


def verify(model: PublishedModel) -> Stamps:
    """Prove that the folder holds exactly the files of the manifest.

    Returns what `require_unchanged` compares with, once the files were used.

    Raises:
        ModelCorrupt: a file is missing, extra, a link, or not of its size or digest.
    """
    listed = model.manifest.files
    present = set(_entries(model.path, set(listed) | _UNLISTED))
    if extra := sorted(present - listed.keys() - _UNLISTED):
        raise ModelCorrupt(f"{model.path} holds files that its manifest does not list: {extra}")
    for name in sorted(present):
        require_plain(model.path / name, (model.path / name).lstat())
    return {name: _verify_file(model.path / name, entry) for name, entry in listed.items()}


def require_unchanged(model: PublishedModel, stamps: Stamps) -> None:
    """Prove that nobody wrote to the files since `verify` read them.

    Raises:
        ModelCorrupt: a file has changed or is gone.
    """
    for name, stamp in stamps.items():
        path = model.path / name
        try:
            now = _stamp(path.lstat())
        except OSError as error:
            raise ModelCorrupt(f"{path} went away while it was loaded") from error
        if now != stamp:
            raise ModelCorrupt(f"{path} changed while it was loaded")


def _entries(folder: Path, known: set[str]) -> Iterator[str]:
    """Everything in the folder by its path below it, but folders that hold known files."""
    holders = {str(Path(name).parent) for name in known}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_dir() or name not in holders:
            yield name


def _verify_file(path: Path, entry: FileEntry) -> tuple[int, int, int, int]:
    try:
        with open_plain(path) as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ModelCorrupt(f"{path} is missing") from None
    except OSError as error:
        raise ModelCorrupt(f"{path} cannot be read: {error.strerror}") from error
    if status.st_size != entry.bytes:
        raise ModelCorrupt(f"{path} has {status.st_size} bytes, its manifest says {entry.bytes}")
    if digest != entry.sha256:
        raise ModelCorrupt(f"{path} is not the file that was published: its digest differs")
    return _stamp(status)


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
