"""Files that are on disk when it is said so, and what a manifest says of them."""

import hashlib
import os
from pathlib import Path

from service.store.manifest import FileEntry


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> FileEntry:
    """Size and digest of a file, which is on disk when the call returns."""
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
