"""Files that are on disk when it is said so, and what a manifest says of them."""

import hashlib
import os
import stat
from pathlib import Path

from service.errors import ModelCorrupt
from service.store.manifest import FileEntry


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> FileEntry:
    """Size and digest of a file, which is on disk when the call returns.

    Raises:
        ModelCorrupt: it is a link, a pipe or a device.
    """
    require_plain(path, path.lstat())
    sync(path)
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that is on disk when the call returns."""
    path.write_bytes(data)
    sync(path)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_plain(path: Path, status: os.stat_result) -> None:
    """A link may point elsewhere by the time that it is read; a pipe never ends.

    Args:
        status: of the file itself, not of what it may link to.

    Raises:
        ModelCorrupt: `path` is no regular file, or has another name elsewhere.
    """
    if stat.S_ISLNK(status.st_mode):
        raise ModelCorrupt(f"{path} is a link: published files are plain")
    if stat.S_ISDIR(status.st_mode):
        raise ModelCorrupt(f"{path} is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ModelCorrupt(f"{path} is not a regular file")
    if status.st_nlink > 1:
        raise ModelCorrupt(f"{path} has another name elsewhere (a hard link): copy it instead")
