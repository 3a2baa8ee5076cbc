"""The knobs of who may ask, and from where; part of `Settings`."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*]+")


class AccessSettings(BaseSettings):
    """Keys, pages of other origins, and TLS."""

    api_keys: SecretStr = Field(
        SecretStr(""),
        description="keys of callers, name:sha256[:tokens_per_minute[:share]] with commas between, "
        "or JSON; `encserve key NAME` makes one; without any everybody may ask",
    )
    api_keys_file: Path | None = Field(
        None, description="file of more such keys, one a line or as JSON"
    )
    admin_key: SecretStr = Field(
        SecretStr(""),
        description="key of /admin, or sha256:HEX of it; empty: /admin is off",
    )
    admin_key_file: Path | None = Field(None, description="file of that key")
    metrics_key: SecretStr = Field(
        SecretStr(""),
        description="key of /metrics, or sha256:HEX of it; empty: everybody may read it",
    )
    metrics_key_file: Path | None = Field(None, description="file of that key")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins whose pages may ask from a browser, comma-separated; * is every; "
        "empty: none but the server's own",
    )
    tls_cert_file: Path | None = Field(
        None, description="certificate chain as PEM; with its key, the server speaks HTTPS"
    )
    tls_key_file: Path | None = Field(None, description="private key of that certificate, as PEM")

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("an origin is * or scheme://host[:port], without a path")
        return origins

    @model_validator(mode="after")
    def _refuse_half_of_a_pair(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are set together, or neither")
        for name in ("admin_key", "metrics_key"):
            if getattr(self, name).get_secret_value() and getattr(self, f"{name}_file"):
                raise ValueError(f"{name} and {name}_file are both set: which of them is meant?")
        return self
