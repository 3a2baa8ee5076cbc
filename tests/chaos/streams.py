"""Mutated bytes of sound requests, each the same for the same number."""

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]

TOKENS = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b" ", b"\t", b":"),
    *(b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"GET ", b"CONNECT ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    *(b"Content-Length: 0\r\n", b"Content-Length: 99999999999999999999\r\n", b"%00", b"%zz", b"?"),
    *(b"Content-Length: -1\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    *(b"ffffffffffffffff\r\n", b"-1\r\n", b"5;a=b\r\n", b"Expect: 100-continue\r\n", b"[[[[[[[["),
    *(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: keep-alive\r\n", b"null", b"NaN"),
    *(
        b"1e999",
        b"-1",
        b"9" * 60,
        b'"',
        b"\\ud800",
        b"{}",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"\x16\x03",
    ),
)
MOST_MUTATIONS = 4


def _flip(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(TOKENS)


def _overwrite(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at, token = rng.randrange(len(data)), rng.choice(TOKENS)
    data[at : at + len(token)] = token


def _noise(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 64, 5000)))


def _remove(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 40)]


def _repeat(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 60)] * rng.choice((1, 2, 200))


def _cut(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def _append(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    data += rng.choice(others)


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _replace, _insert, _overwrite, _noise),
    *(_remove, _repeat, _cut, _splice, _append),
)


def mutated(number: int, sound: Sequence[bytes]) -> bytes:
    """One to four mutations of one of the sound requests."""
    rng = random.Random(number)
    data = bytearray(rng.choice(sound))
    for _ in range(rng.randint(1, MOST_MUTATIONS)):
        if data:
            rng.choice(MUTATIONS)(rng, data, sound)
    return bytes(data)


def chunked(request: bytes) -> bytes:
    """The same request with its body in chunks of no declared length."""
    head, _, body = request.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    lines = b"\r\n".join([*kept, b"Transfer-Encoding: chunked"])
    middle = len(body) // 2
    parts = (body[:middle], body[middle:], b"")
    return lines + b"\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
