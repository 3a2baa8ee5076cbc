"""Files that are on disk when it is said so, and what a manifest says of them."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
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


@contextmanager
def open_plain(path: Path) -> Iterator[BufferedReader]:
    """A regular file, opened once: what is at the path may be exchanged, what is open may not.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ModelCorrupt: it is not plain.
    """
    try:
        # A pipe must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ModelCorrupt(f"{path} is a link: published files are plain") from None
        raise
    try:
        require_plain(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_plain(path: Path, most_bytes: int) -> bytes:
    """A small file's content; never waits for a pipe, nor follows a link.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ModelCorrupt: it is not plain, or longer than `most_bytes`.
    """
    with open_plain(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ModelCorrupt(f"{path} is longer than {most_bytes} bytes")
    return content


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
