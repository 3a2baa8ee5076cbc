"""Publishers that are killed, that run out of disk, or that publish at the same time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.errors import ModelNotFound
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.unit.publisher import prove
from tests.unit.test_store import publish

# `make chaos` asks for 500.
KILLS = int(os.environ.get("PUBLISHER_KILLS", "150"))


@contextmanager
def publishing(store: Path, *arguments: str) -> Iterator[None]:
    """A publisher at work, killed at the end."""
    command = [sys.executable, "-m", "tests.unit.publisher", str(store), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as publisher:
        try:
            assert publisher.stdout
            assert publisher.stdout.readline() == "ready\n"
            yield
        finally:
            publisher.kill()


def test_publisher_that_is_killed_at_any_moment_leaves_the_store_whole(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    command = [sys.executable, "-m", "tests.unit.publisher", str(repository.root)]
    subprocess.run([*command, "--kills", str(KILLS)], check=True, timeout=500)
    newest = repository.versions("mood")[-1]
    # They did publish, between the kills.
    assert int(newest) > KILLS // 4
    repository.collect("mood", keep=1)
    left = {path.name for path in (repository.root / "mood").iterdir()}
    assert left == {".lock", "current", newest, repository.resolve("mood").manifest.version}
    assert publish(repository).manifest.version == str(int(newest) + 1)
    prove(repository)


def test_reader_never_sees_half_a_version_while_one_is_published(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    with publishing(repository.root):
        for _ in range(300):
            verify(repository.resolve("mood"))


def test_disk_that_is_full_publishes_nothing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    # Less than a file of the version, and less than its manifest.
    for most_bytes in ("1000", "300"):
        with publishing(repository.root, "--most-file-bytes", most_bytes):
            for _ in range(50):
                prove(repository)
    assert repository.versions("mood") == ["1"]
    repository.collect("mood", keep=1)
    assert publish(repository).manifest.version == "2"


def test_publishers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda n: publish(repository, weights=b"%d" % n), range(40)))
    versions = [int(model.manifest.version) for model in made]
    assert sorted(versions) == list(range(1, 41))
    for number, model in enumerate(made):
        assert model.file("model.onnx").read_bytes() == b"%d" % number
    assert repository.resolve("mood").manifest.version == "40"


def test_publishers_in_several_processes_lose_nothing(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    with publishing(repository.root), publishing(repository.root):
        while len(repository.versions("mood")) < 30:
            prove(repository)
    versions = [int(version) for version in repository.versions("mood")]
    assert versions == list(range(1, len(versions) + 1))
    prove(repository)


def test_collecting_spares_drafts_of_the_living(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "store")
    publish(repository)
    with repository.draft("mood") as draft:
        repository.collect("mood", keep=1)
        assert draft.path.is_dir()


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
