"""Settings as they may be shown: secrets hidden, also those that stand inside of URLs."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from service.settings import Settings

HIDDEN = "***"

# Where an address begins; a path has made one stroke of two.
_KIND = re.compile(r"[A-Za-z][\w+.-]*:/{1,2}")


def settings_shown(settings: Settings) -> dict[str, object]:
    """Every setting by name, as JSON has it; whether a secret is set can be seen, but not what."""
    return {name: shown(getattr(settings, name)) for name in type(settings).model_fields}


def shown(value: object) -> object:
    """A value without what nobody should read in a log."""
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, str | Path):
        return address_shown(str(value))
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(one) for one in value]
    return value


def address_shown(address: str) -> str:
    """An address without user and password, and without what follows a `?` or a `#`.

    Where a login ends is only told if all that is special in it is written with `%`, which people
    forget: where an `@`, a `/` or a `?` may be one of a password, nothing but the kind is shown.
    """
    found = _KIND.search(address)
    if found is None:
        return address
    kind, rest = address[: found.end()], address[found.end() :]
    host, slash, path = rest.partition("/")
    path, of_path, _ = _without_query(path)
    host_alone, of_host, _ = _without_query(host)
    if "@" in host and not of_host and "@" not in path:
        host_alone = f"{HIDDEN}@{host.rpartition('@')[2]}"
    elif "@" in host or (":" in host and "@" in path):
        return kind + HIDDEN
    if of_host:
        return f"{kind}{host_alone}{of_host}{HIDDEN}"
    return f"{kind}{host_alone}{slash}{path}" + (of_path and of_path + HIDDEN)


def _without_query(part: str) -> tuple[str, str, str]:
    """What is before the first `?` or `#`, the mark, and what is behind it."""
    mark = next((one for one in part if one in "?#"), "")
    return part.partition(mark) if mark else (part, "", "")
