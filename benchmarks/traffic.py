"""What is sent: texts made into requests of whole bytes, their tokens counted beforehand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import orjson

from benchmarks.common import mixed_texts
from benchmarks.lean_client import post_bytes
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import ModelRepository

PATH = "/v1/embeddings"
SHORT_WORDS = 15
# 128 clients with 32 texts each have this many in flight, and no two may be the same.
LEAST_TEXTS = 128 * 32
_GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its texts, how many tokens the model reads of them, and all its bytes."""

    texts: tuple[str, ...]
    tokens: int
    payload: bytes


class Traffic:
    """Requests to the embedding model `name` of the store."""

    def __init__(self, store: Path, name: str) -> None:
        published = ModelRepository(store).resolve(name)
        self.manifest = published.manifest
        self.max_tokens = published.manifest.max_tokens
        self._tokenizer = Tokenizer(published.file(TOKENIZER_FILE), self.max_tokens)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens the model reads of each text."""
        return [len(text.token_ids) for text in self._tokenizer.encode(texts)]

    def requests(self, texts: Sequence[str], texts_each: int = 1) -> list[Request]:
        """The texts in requests of `texts_each`; every stretch of them is as mixed as the whole.

        So a slow system, which gets through few of them, meets the same lengths as a fast one.
        """
        lengths = self.lengths(texts)
        by_length = sorted(range(len(texts)), key=lengths.__getitem__)
        places = sorted(range(len(texts)), key=lambda rank: rank * _GOLDEN_RATIO % 1)
        order = [by_length[place] for place in places]
        starts = range(0, len(order) - texts_each + 1, texts_each)
        chunks = [order[start : start + texts_each] for start in starts]
        return [
            self._request([texts[at] for at in chunk], sum(lengths[at] for at in chunk))
            for chunk in chunks
        ]

    def texts_of(self, tokens: int, words_of: Sequence[str], count: int) -> list[str]:
        """`count` texts of exactly so many tokens, from the words of the given ones."""
        words = " ".join(words_of).split()
        special = self.lengths(["a"])[0] - 1
        costs = [length - special for length in self.lengths(words)]
        supply = cycle(zip(words, costs, strict=True))
        return [_fill(supply, tokens - special) for _ in range(count)]

    def _request(self, texts: list[str], tokens: int) -> Request:
        body = orjson.dumps({"model": self.manifest.name, "input": texts})
        return Request(tuple(texts), tokens, post_bytes(PATH, body))


def distinct_texts(path: Path | None) -> list[str]:
    """At least `LEAST_TEXTS` texts, no two the same: a number makes another text of a known one."""
    texts = list(dict.fromkeys(mixed_texts(path)))
    rounds = -(-LEAST_TEXTS // len(texts))
    return texts + [f"{text} {number}" for number in range(1, rounds) for text in texts]


def short_texts(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if len(text.split()) <= SHORT_WORDS]


def describe(loads: Mapping[str, Sequence[Request]]) -> str:
    """How long the texts of each load are."""
    means = {
        name: sum(request.tokens for request in requests)
        / sum(len(request.texts) for request in requests)
        for name, requests in loads.items()
    }
    return ", ".join(f"{name}: {mean:.0f} tokens a text" for name, mean in means.items())


def _fill(supply: Iterator[tuple[str, int]], tokens: int) -> str:
    """The next words that fit, until they have exactly so many tokens."""
    taken: list[str] = []
    while tokens:
        word, cost = next(supply)
        if cost <= tokens:
            taken.append(word)
            tokens -= cost
    return " ".join(taken)
