"""Who may write: locks that end with their process, and what dead publishers left behind.

A model's lock is held while a draft is begun, a version takes its number or the pointer moves. Each
draft has a lock of its own for as long as its publisher lives. Readers need none.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.errors import StoreUnwritable

LOCK_FILE = ".lock"
STAGING_PREFIX = ".publishing-"
REMOVED_PREFIX = ".removed-"
# Only writing fails so, whatever it was that was written.
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes and threads, until the end of the block or of the process."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging_lock(path: Path) -> Iterator[None]:
    """Hold the draft `path`: what nobody holds was left by a dead publisher."""
    lock = _lock_of(path)
    with locked(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what dead publishers and collectors left; call with the model's lock held.

    Without that lock a draft that is just beginning, or a pointer that is about to move, would look
    like one of the dead.
    """
    for path in folder.glob(f"{REMOVED_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{STAGING_PREFIX}*"):
        if path.is_dir():
            _remove_if_abandoned(path)
        elif not path.name.endswith(LOCK_FILE):
            path.unlink(missing_ok=True)
    for lock in folder.glob(f"{STAGING_PREFIX}*{LOCK_FILE}"):
        if not lock.with_name(lock.name.removesuffix(LOCK_FILE)).exists():
            _remove_if_abandoned(lock.with_name(lock.name.removesuffix(LOCK_FILE)))


def _remove_if_abandoned(path: Path) -> None:
    descriptor = _open(_lock_of(path))
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            _lock_of(path).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + LOCK_FILE)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A disk that is full or not to be written is no surprise: say so in one line."""
    try:
        yield
    except OSError as error:
        in_store = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
        if error.errno not in _FULL_DISK and not (isinstance(error, PermissionError) and in_store):
            raise
        raise StoreUnwritable(f"{folder} cannot be written: {error.strerror}") from error
