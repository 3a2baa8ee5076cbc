"""Publishers to be killed: each publishes small versions of a model, one after the other.

python -m tests.unit.publisher STORE [--most-file-bytes N]     until it is killed
python -m tests.unit.publisher STORE --kills N                 kills N publishers, proves the store
"""

import argparse
import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

from service.errors import ModelNotFound
from service.store.repository import ModelRepository
from service.store.verification import verify
from tests.unit.test_store import fields

LONGEST_LIFE_S = 0.04
MOST_VERSIONS = 20


def publish_for_ever(repository: ModelRepository) -> None:
    number = 0
    while True:
        number += 1
        with suppress(OSError), repository.draft("mood") as draft:
            for file in ("model.onnx", "tokenizer.json"):
                (draft.path / file).write_bytes(b"%d" % number * 2000)
            (draft.path / "report").mkdir()
            (draft.path / "report" / "metrics.json").write_bytes(b"{}")
            draft.publish(fields())


def prove(repository: ModelRepository) -> None:
    """Every version that can be seen is whole, and the current one is among them."""
    # The pointer first: publishers may be at work, and a newer version is no fault.
    try:
        current = [repository.resolve("mood").manifest.version]
    except ModelNotFound:
        current = []
    versions = repository.versions("mood")
    assert set(current) <= set(versions)
    for version in versions:
        verify(repository.resolve("mood", version))


def kill_publishers(repository: ModelRepository, kills: int) -> None:
    """As SIGKILL comes: at any moment of a publication."""
    chance = random.Random(7)
    for _ in range(kills):
        child = os.fork()
        if not child:
            publish_for_ever(repository)
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        prove(repository)
        if len(repository.versions("mood")) > MOST_VERSIONS:
            repository.collect("mood", keep=2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--most-file-bytes", type=int)
    options = parser.parse_args()
    repository = ModelRepository(options.store)
    if options.kills is not None:
        kill_publishers(repository, options.kills)
        return
    if options.most_file_bytes is not None:
        # As a full disk: writes beyond it fail, and the signal for that is not wanted.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.most_file_bytes,) * 2)
    print("ready", flush=True)
    publish_for_ever(repository)


if __name__ == "__main__":
    main()
