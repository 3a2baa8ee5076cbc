"""Publishers that die: killed by chance or before each of their steps, alone and side by side.

python -m tests.unit.publisher MODE STORE [--times N]     exit status 0: the store stayed whole

A process of its own without threads, so that its publishers can be forked, which is cheap.
"""

import argparse
import errno
import itertools
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from service.errors import ModelNotFound, StoreUnwritable
from service.store.files import describe
from service.store.manifest import MANIFEST_FILE, Manifest
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.unit.test_store import fields

NAME = "mood"
# Of a publisher's life, in publications.
LONGEST_LIFE = 3.0
KEPT = 3
# Exit status of a child that was told of the full disk, and of one that had no such step.
_REFUSED, _UNTOUCHED = 3, 4
# What changes a store, or looks at it in order to change it.
STEPS = {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir"}


def publish(repository: ModelRepository, content: bytes) -> int:
    with repository.draft(NAME) as draft:
        (draft.path / "model.onnx").write_bytes(content * 500)
        (draft.path / "tokenizer.json").write_bytes(content)
        (draft.path / "report").mkdir()
        (draft.path / "report" / "metrics.json").write_bytes(b"{}")
        return int(draft.publish(fields()).manifest.version)


def publish_in_place(repository: ModelRepository, content: bytes) -> int:
    """What must be caught: a version that is written where readers look."""
    version = str(max(map(int, repository.versions(NAME)), default=0) + 1)
    folder = repository.root / NAME / version
    folder.mkdir(parents=True)
    files = ("model.onnx", "tokenizer.json")
    for file in files:
        (folder / file).write_bytes(content * 500)
    manifest = Manifest(
        **dict(fields()),
        name=NAME,
        version=version,
        created_at=datetime.now(UTC),
        files={file: describe(folder / file) for file in files},
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    (folder.parent / "current").write_text(version)
    return int(version)


Publish = Callable[[ModelRepository, bytes], int]


def prove(repository: ModelRepository) -> None:
    """Every version that can be seen is whole, and so is the current one."""
    for version in repository.versions(NAME):
        verify(repository.resolve(NAME, version))
    if NAME in repository.names():
        verify(repository.resolve(NAME))


def _has_ended_within(child: int, seconds: float) -> bool:
    watched = os.pidfd_open(child)
    try:
        return bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)


def kill_by_chance(repository: ModelRepository, times: int, publish: Publish = publish) -> None:
    """As SIGKILL comes: at any moment. What a publisher was told is published stays so."""
    chance = random.Random(7)
    published = 0
    longest_s = LONGEST_LIFE * _life_of_one_publication(repository)
    for _ in range(times):
        told, tell = os.pipe()
        child = _fork(partial(_publish_and_tell, repository, publish, tell))
        ended = _has_ended_within(child, chance.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(tell)
        assert not ended, "a publisher has ended before it was killed"
        with os.fdopen(told, "rb") as lines:
            versions = [int(line) for line in lines.read().split()]
        published += len(versions)
        prove(repository)
        present = [int(version) for version in repository.versions(NAME)]
        assert set(versions) <= set(present), "a version that was published is gone"
        if versions:
            assert int(repository.resolve(NAME).manifest.version) >= versions[-1]
        if len(present) > 2 * KEPT:
            repository.collect(NAME, KEPT)
    _prove_clean(repository)
    print(json.dumps({"kills": times, "published": published}))


def die_at_each_step(repository: ModelRepository, work: Callable[[], object]) -> None:
    """Work that is killed before its first step, the next time before its second, and so on."""
    _end_at_each_step(repository, work, _die)


def fill_disk_at_each_step(repository: ModelRepository) -> None:
    """The disk is full from a publisher's first step on, the next time from its second."""
    _end_at_each_step(repository, lambda: publish(repository, b"next"), _fail)


def _end_at_each_step(
    repository: ModelRepository, work: Callable[[], object], end: Callable[[str, Any], None]
) -> None:
    for step in itertools.count(1):
        while len(repository.versions(NAME)) < KEPT + 2:
            publish(repository, b"more")
        before = repository.resolve(NAME).manifest.version
        child = _fork(partial(_end_at, step, work, end))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, _UNTOUCHED, _REFUSED, -signal.SIGKILL), f"step {step}: {status}"
        prove(repository)
        assert before in repository.versions(NAME)
        if status == _UNTOUCHED:
            break
    _prove_clean(repository)
    print(json.dumps({"steps": step - 1}))


def publish_side_by_side(repository: ModelRepository, times: int, publishers: int = 4) -> None:
    """No version is lost or half, while readers read and a collector looks for the dead."""

    def publish_all(number: int) -> None:
        for index in range(times):
            publish(repository, b"%d-%d " % (number, index))

    children = [_fork(partial(publish_all, number)) for number in range(publishers)]
    everything = publishers * times
    while len(repository.versions(NAME)) < everything:
        if NAME in repository.names():
            verify(repository.resolve(NAME))
            repository.collect(NAME, everything)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    versions = repository.versions(NAME)
    assert versions == [str(number) for number in range(1, everything + 1)]
    contents = {
        repository.resolve(NAME, version).file("tokenizer.json").read_bytes()
        for version in versions
    }
    assert len(contents) == everything
    assert repository.resolve(NAME).manifest.version == str(everything)
    prove(repository)
    _prove_clean(repository)
    print(json.dumps({"published": everything}))


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except StoreUnwritable:
        os._exit(_REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _life_of_one_publication(repository: ModelRepository) -> float:
    """Seconds from the birth of a publisher until it has told of its first version."""
    began_s = time.perf_counter()
    told, tell = os.pipe()
    child = _fork(partial(_publish_and_tell, repository, publish, tell))
    os.read(told, 1)
    took_s = time.perf_counter() - began_s
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    return took_s


def _publish_and_tell(repository: ModelRepository, publish: Publish, tell: int) -> None:
    for number in itertools.count():
        version = publish(repository, b"%d" % number)
        os.write(tell, b"%d\n" % version)


def _end_at(last: int, work: Callable[[], object], end: Callable[[str, Any], None]) -> None:
    """Call `end` from the step with that number on: an audit hook sees each before it is done."""
    steps = itertools.count(1)
    reached = False

    def count(event: str, arguments: Any) -> None:
        nonlocal reached
        if event in STEPS and next(steps) >= last:
            reached = True
            end(event, arguments)

    sys.addaudithook(count)
    work()
    os._exit(0 if reached else _UNTOUCHED)


def _die(event: str, arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(event: str, arguments: Any) -> None:
    writes = event in ("os.mkdir", "os.rename")
    if event == "open":
        writes = bool(arguments[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
    if writes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _prove_clean(repository: ModelRepository) -> None:
    """Nothing of the dead is left once it was collected, and publishing goes on."""
    try:
        repository.collect(NAME, KEPT)
    except ModelNotFound:
        return
    versions = set(repository.versions(NAME))
    left = {path.name for path in (repository.root / NAME).iterdir()}
    assert left <= versions | {".lock", "current"}, left
    assert publish(repository, b"last") == max(map(int, versions), default=0) + 1
    prove(repository)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("store", type=Path)
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    repository = ModelRepository(options.store)
    modes: dict[str, Callable[[], None]] = {
        "chance": lambda: kill_by_chance(repository, options.times),
        "chance-in-place": lambda: kill_by_chance(repository, options.times, publish_in_place),
        "in-place": lambda: die_at_each_step(
            repository, lambda: publish_in_place(repository, b"new")
        ),
        "publish": lambda: die_at_each_step(repository, lambda: publish(repository, b"next")),
        "collect": lambda: die_at_each_step(repository, lambda: repository.collect(NAME, KEPT)),
        "roll-back": lambda: die_at_each_step(repository, lambda: repository.roll_back(NAME)),
        "full-disk": lambda: fill_disk_at_each_step(repository),
        "side-by-side": lambda: publish_side_by_side(repository, options.times),
    }
    modes[options.mode]()


if __name__ == "__main__":
    main()
