"""Keys as the server knows them: by their sha256, with a name and limits; never the key itself."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from service.errors import KeysInvalid

# Random bytes of a key. With so many of them, a plain digest cannot be tried out.
KEY_BYTES = 32
KEY_PREFIX = "enc-"
DIGEST_PREFIX = "sha256:"
MOST_KEYS_BYTES = 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FIELDS = ("name", "sha256", "tokens_per_minute", "share")


@dataclass(frozen=True, slots=True)
class Key:
    """One caller's key.

    digest: sha256 of the key, 32 bytes. tokens_per_minute: None is any number.
    share: of a model's queue, that the caller's texts may fill at once; above 0, at most 1.
    """

    name: str
    digest: bytes = field(repr=False)
    tokens_per_minute: int | None = None
    share: float = 1.0


def make_key(name: str) -> tuple[str, str]:
    """A new key, and the line of `ENCSERVE_API_KEYS_FILE` that lets it in.

    Raises:
        KeysInvalid: the name cannot be one.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    line = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    parse_keys(line, "the name")
    return key, line


def digest_of(secret: str) -> bytes:
    """The sha256 of a key that is written out, or as ``sha256:HEX``.

    Raises:
        KeysInvalid: no sha256 follows the prefix.
    """
    if not secret.startswith(DIGEST_PREFIX):
        return hashlib.sha256(secret.encode()).digest()
    written = secret.removeprefix(DIGEST_PREFIX)
    if not _DIGEST.fullmatch(written):
        raise KeysInvalid(f"64 hexadecimal digits must follow {DIGEST_PREFIX!r} in a key")
    return bytes.fromhex(written)


def digest_of_sent(sent: bytes) -> bytes:
    """The sha256 of what a caller sent. A digest is no key: ``sha256:HEX`` means nothing here."""
    return hashlib.sha256(sent).digest()


def same_digest(one: bytes, other: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(one, other)


def read_secret(secret: str, file: Path | None) -> bytes | None:
    """The digest of a key that is given, or that stands in a file; None where there is neither.

    Raises:
        KeysInvalid: the file cannot be read, or holds nothing.
    """
    written = _written(secret, file)
    return digest_of(written) if written else None


def key_to_send(secret: str, file: Path | None) -> str:
    """The key itself, of whoever asks a server for what needs it; empty where there is none.

    Raises:
        KeysInvalid: only its digest is known here, or the file cannot be read or holds nothing.
    """
    written = _written(secret, file)
    if written.startswith(DIGEST_PREFIX):
        raise KeysInvalid("only the digest of the key is known here: the key itself is needed")
    return written


def read_keys(written: str, file: Path | None) -> tuple[Key, ...]:
    """All keys of the setting and of the file.

    Raises:
        KeysInvalid: one of them is not as it should be, or a name or a digest stands twice.
    """
    keys = list(parse_keys(written, "ENCSERVE_API_KEYS"))
    if file is not None:
        found = parse_keys(_read(file), str(file))
        if not found:
            raise KeysInvalid(
                f"{file} holds no key, which would open the server to all: `encserve key NAME` "
                "makes a line for it, or unset ENCSERVE_API_KEYS_FILE"
            )
        keys += found
    for what, values in (
        ("name", [key.name for key in keys]),
        ("sha256", [key.digest for key in keys]),
    ):
        if len(set(values)) < len(values):
            raise KeysInvalid(f"two API keys have the same {what}")
    return tuple(keys)


def parse_keys(written: str, where: str) -> tuple[Key, ...]:
    """Keys as a JSON list of objects, or as lines (or between commas).

    A line is ``name:sha256[:tokens_per_minute[:share]]``; what follows # is passed over.

    Args:
        where: the keys are written, for the error.

    Raises:
        KeysInvalid: says which of them is wrong, without repeating it.
    """
    entries = _json_entries(written, where) if written.lstrip().startswith("[") else _lines(written)
    return tuple(_key(entry, f"key {number} of {where}") for number, entry in entries)


def _json_entries(written: str, where: str) -> list[tuple[int, dict[str, Any]]]:
    try:
        entries = orjson.loads(written)
    except orjson.JSONDecodeError:
        raise KeysInvalid(f"the keys of {where} are not valid JSON") from None
    if not all(isinstance(entry, dict) for entry in entries):
        raise KeysInvalid(f"the keys of {where} must be JSON objects")
    return list(enumerate(entries, start=1))


def _lines(written: str) -> list[tuple[int, dict[str, Any]]]:
    # A remark goes to the end of its line: a key behind a comma in it is not one.
    keys = [key for line in written.splitlines() for key in line.partition("#")[0].split(",")]
    return [
        (number, _of_line(key.strip().split(":")))
        for number, key in enumerate(filter(str.strip, keys), start=1)
    ]


def _of_line(parts: Sequence[str]) -> dict[str, Any]:
    """A part too many keeps its place, so that it is refused."""
    names = (*_FIELDS, *("" for _ in parts[len(_FIELDS) :]))
    return {
        name: _number(part) if name in _FIELDS[2:] else part
        for name, part in zip(names, parts, strict=False)
        if part or name not in _FIELDS[2:]
    }


def _number(part: str) -> int | float | str:
    try:
        return float(part) if "." in part else int(part)
    except ValueError:
        return part


def _key(entry: dict[str, Any], which: str) -> Key:
    name, digest = entry.get("name"), entry.get("sha256")
    rate, share = entry.get("tokens_per_minute"), entry.get("share", 1.0)
    if not entry.keys() <= set(_FIELDS):
        raise KeysInvalid(f"{which}: a key has {', '.join(_FIELDS)}, and nothing else")
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise KeysInvalid(
            f"{which}: its name must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', a letter or "
            "digit first"
        )
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise KeysInvalid(
            f"{which}: its sha256 must be 64 hexadecimal digits, as `encserve key {name}` prints"
        )
    if rate is not None and not (type(rate) is int and rate >= 1):
        raise KeysInvalid(f"{which}: tokens_per_minute must be a whole number from 1")
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise KeysInvalid(f"{which}: share must be above 0 and at most 1")
    return Key(name, bytes.fromhex(digest), rate, float(share))


def _written(secret: str, file: Path | None) -> str:
    if file is None:
        return secret
    secret = _read(file).strip()
    if not secret:
        raise KeysInvalid(f"{file} holds no key")
    return secret


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            written = opened.read(MOST_KEYS_BYTES + 1)
        if len(written) > MOST_KEYS_BYTES:
            raise KeysInvalid(f"{file} is larger than {MOST_KEYS_BYTES} bytes")
        return written.decode()
    except OSError as error:
        raise KeysInvalid(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeysInvalid(f"{file} is not UTF-8") from None
