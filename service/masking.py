"""Settings as they may be shown: secrets hidden, also those that stand inside of URLs."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from service.settings import Settings

HIDDEN = "***"

# A name and a password before the host, and what signed addresses have behind the question mark.
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_QUERY = re.compile(r"(?<=\?)[^\s,#]+")


def settings_shown(settings: Settings) -> dict[str, object]:
    """Every setting by name, as JSON has it; whether a secret is set can be seen, but not what."""
    return {name: shown(getattr(settings, name)) for name in type(settings).model_fields}


def shown(value: object) -> object:
    """A value without what nobody should read in a log."""
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, str | Path):
        return _QUERY.sub(HIDDEN, _LOGIN.sub(HIDDEN, str(value)))
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(one) for one in value]
    return value
