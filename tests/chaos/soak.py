"""Mixed requests for a while, and the memory that the server holds meanwhile."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import orjson

from benchmarks.lean_client import Connection, post_bytes
from tests.chaos.sizes import size

CLIENTS = 4
LONGEST_TEXT_WORDS = size(512, 32)
MOST_TEXTS = 32
# One in so many requests is one that is refused.
REFUSED_EVERY = 50
SAMPLES = 400
# Of the samples, where growth is measured from and to.
SHARE = 0.1
ROUTES = {"/v1/embeddings": "embedding", "/v1/classify": "sentiment"}
# Common words, and syllables that make rare ones: few texts come twice.
WORDS = ("the", "food", "is", "good", "a", "bad", "train", "at", "nine", "leaves", "not", "time")
SYLLABLES = ("ba", "ko", "ri", "tem", "shu", "lan", "po", "ver", "dis", "ming")


@dataclass
class Soak:
    """What a soak saw: memory over time in MiB, and statuses of the answers."""

    memory_mib: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.statuses.total()

    @property
    def second_half_growth_mib(self) -> float:
        """From the tenth behind the middle to the last tenth, by their medians."""
        tenth = max(1, round(len(self.memory_mib) * SHARE))
        middle = len(self.memory_mib) // 2
        return median(self.memory_mib[-tenth:]) - median(self.memory_mib[middle : middle + tenth])

    def __str__(self) -> str:
        memory = self.memory_mib
        return (
            f"{self.requests} requests ({dict(self.statuses)}), memory "
            f"{memory[0]:.0f} MiB at first, {memory[len(memory) // 2]:.0f} in the middle, "
            f"{memory[-1]:.0f} at the end, {max(memory):.0f} at most; growth in the second half "
            f"{self.second_half_growth_mib:+.1f} MiB"
        )


def memory_mib(pid: int | str) -> float:
    """What the process holds of the machine's memory, its part of shared pages (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def soak(
    url: str, pid: int, seconds: float, *, first_word: str = "", seed: int = 0, requests: int = 1
) -> Soak:
    """Ask the server at `url` from `CLIENTS` connections.

    Args:
        first_word: every text begins with it.
        requests: at least so many, however long they take.
    """
    return asyncio.run(_soak(url, pid, seconds, first_word, seed, requests))


def fill(url: str) -> None:
    """Ask for the largest there is, from all clients at once.

    What runs side by side take together is kept, and a server that gets little of the machine may
    otherwise come to that only after a quarter of an hour.
    """
    asyncio.run(_fill(url))


async def _fill(url: str) -> None:
    async def client(path: str, chance: random.Random) -> None:
        connection = await Connection.open(url)
        texts = [" ".join(chance.choices(WORDS, k=LONGEST_TEXT_WORDS)) for _ in range(MOST_TEXTS)]
        body = orjson.dumps({"model": ROUTES[path], "input": texts})
        answer = await connection.ask(post_bytes(path, body))
        connection.close()
        assert answer.status == 200

    await asyncio.gather(
        *(client(path, random.Random(n)) for n in range(CLIENTS) for path in ROUTES)
    )


async def _soak(
    url: str, pid: int, seconds: float, first_word: str, seed: int, requests: int
) -> Soak:
    found = Soak()
    least_s = time.monotonic() + seconds

    def goes_on() -> bool:
        return time.monotonic() < least_s or found.requests < requests

    async def client(chance: random.Random) -> None:
        connection = await Connection.open(url)
        try:
            while goes_on():
                answer = await connection.ask(_request(chance, first_word))
                found.statuses[answer.status] += 1
        finally:
            connection.close()

    clients = [asyncio.create_task(client(random.Random(seed + n))) for n in range(CLIENTS)]
    while goes_on() and not any(client.done() for client in clients):
        found.memory_mib.append(memory_mib(pid))
        await asyncio.sleep(seconds / SAMPLES)
    await asyncio.gather(*clients)
    return found


def _request(chance: random.Random, first_word: str) -> bytes:
    path, model = chance.choice(list(ROUTES.items()))
    texts: list[str] = [
        " ".join([*filter(None, [first_word]), *_words(chance)])
        for _ in range(chance.randint(1, MOST_TEXTS))
    ]
    if chance.randrange(REFUSED_EVERY) == 0:
        texts.append(" ")
    return post_bytes(path, orjson.dumps({"model": model, "input": texts}))


def _words(chance: random.Random) -> Iterable[str]:
    for _ in range(chance.randint(1, LONGEST_TEXT_WORDS)):
        rare = chance.random() < 0.05
        yield "".join(chance.choices(SYLLABLES, k=3)) if rare else chance.choice(WORDS)


def soak_s(default: float) -> float:
    """How long; the variable SOAK_S says otherwise."""
    return float(os.environ.get("SOAK_S", default))
