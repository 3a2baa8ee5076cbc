"""Publishers that are killed, that run out of disk, or that publish at the same time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import ModelCorrupt, ModelNotFound, StoreUnwritable
from service.store.repository import ModelRepository
from service.store.verification import require_unchanged, verify
from tests.unit.publisher import prove
from tests.unit.test_store import fields, publish

# `make chaos` asks for 500.
KILLS = os.environ.get("PUBLISHER_KILLS", "100")


def dying(mode: str, store: Path, times: str = "1") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.unit.publisher", mode, str(store), "--times", times]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def test_publisher_that_is_killed_at_any_moment_leaves_the_store_whole(tmp_path: Path) -> None:
    ended = dying("chance", tmp_path / "store", KILLS)
    assert ended.returncode == 0, ended.stderr
    # They did publish, between the kills.
    assert int(ended.stdout.split(": ")[-1].strip("}\n")) > int(KILLS) // 10


def test_publisher_that_writes_where_readers_look_is_caught(tmp_path: Path) -> None:
    ended = dying("in-place", tmp_path / "store")
    assert ended.returncode == 1
    assert "service.errors" in ended.stderr


@pytest.mark.parametrize("work", ["publish", "collect", "roll-back"])
def test_work_that_is_killed_before_any_of_its_steps_leaves_the_store_whole(
    tmp_path: Path, work: str
) -> None:
    ended = dying(work, tmp_path / "store")
    assert ended.returncode == 0, ended.stderr


def test_disk_that_is_full_from_any_step_on_leaves_the_store_whole(tmp_path: Path) -> None:
    ended = dying("full-disk", tmp_path / "store")
    assert ended.returncode == 0, ended.stderr


def test_publishers_in_several_processes_lose_nothing(tmp_path: Path) -> None:
    ended = dying("side-by-side", tmp_path / "store", "15")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "encserve-test", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here; the step-by-step test stands for it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_disk_that_is_really_full_refuses_in_one_line_and_keeps_what_it_has(
    small_disk: Path,
) -> None:
    repository = ModelRepository(small_disk / "store")
    publish(repository)
    refusals = []
    for free_pages in range(15):
        before = repository.versions("mood")
        fill(small_disk / "filler", free_pages)
        try:
            publish(repository)
        except StoreUnwritable as error:
            refusals.append(error.message)
        prove(repository)
        assert set(before) <= set(repository.versions("mood"))
        repository.collect("mood", keep=1)
    assert 2 < len(refusals) < 15
    assert all("No space left" in message for message in refusals)


def fill(file: Path, free_pages: int) -> None:
    """Take all of the disk but so many pages."""
    file.unlink(missing_ok=True)
    status = os.statvfs(file.parent)
    file.write_bytes(bytes(max(0, status.f_bfree - free_pages) * status.f_bsize))


def test_all_of_a_version_is_on_disk_before_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    unsynced: dict[str, set[int]] = {}
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        inodes = {one.stat().st_ino for one in (path, *path.rglob("*"))}
        unsynced[Path(target).name] = inodes - synced
        moved = rename(path, target)
        synced.discard(path.parent.stat().st_ino)
        return moved

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    assert unsynced == {"1": set(), "current": set()}
    # The names, too: of the version and the pointer, and of the model.
    assert {(repository.root / "mood").stat().st_ino, repository.root.stat().st_ino} <= synced


def test_collecting_spares_drafts_of_the_living(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    with repository.draft("mood") as draft:
        repository.collect("mood", keep=1)
        assert draft.path.is_dir()


def test_link_in_a_draft_is_not_published(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")

    def publish_link() -> None:
        with repository.draft("mood") as draft:
            (draft.path / "model.onnx").symlink_to("/etc/hostname")
            draft.publish(fields())

    with pytest.raises(ModelCorrupt, match="is a link"):
        publish_link()
    assert repository.versions("mood") == []


def test_version_may_wait_beside_the_current_one(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    with repository.draft("mood") as draft:
        for file in ("model.onnx", "tokenizer.json"):
            (draft.path / file).write_bytes(b"{}")
        assert draft.publish(fields(), current=False).manifest.version == "2"
    assert repository.resolve("mood").manifest.version == "1"


def test_rollback_goes_to_the_version_before(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    for _ in range(3):
        publish(repository)
    assert repository.roll_back("mood").manifest.version == "2"
    assert repository.roll_back("mood").manifest.version == "1"
    with pytest.raises(ModelNotFound, match="no version before 1"):
        repository.roll_back("mood")
    assert repository.set_current("mood", "3").manifest.version == "3"
    with pytest.raises(ModelNotFound):
        repository.set_current("mood", "4")
    assert repository.resolve("mood").manifest.version == "3"


def test_current_version_is_never_collected(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    for _ in range(5):
        publish(repository)
    repository.set_current("mood", "2")
    assert repository.collect("mood", keep=1) == ["1", "3", "4"]
    assert repository.versions("mood") == ["2", "5"]
    # A version's number is never given twice while a newer one stands.
    assert publish(repository).manifest.version == "6"


def test_file_that_changes_after_it_was_verified_is_noticed(tmp_path: Path) -> None:
    published = publish(ModelRepository(tmp_path / "store"))
    stamps = verify(published)
    require_unchanged(published, stamps)
    with published.file("model.onnx").open("r+b") as file:
        file.write(b"W")
    with pytest.raises(ModelCorrupt, match="changed while it was loaded"):
        require_unchanged(published, stamps)


def test_pointer_to_a_version_that_is_gone_says_so(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    (repository.root / "mood" / "current").write_text("7")
    with pytest.raises(ModelNotFound, match="rollback mood --to"):
        repository.resolve("mood")
