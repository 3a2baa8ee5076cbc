"""The knobs of where models come from and what they must pass; part of `Settings`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, NoDecode


class StoreSettings(BaseSettings):
    """Signatures, trials and sources of models."""

    signatures: Literal["off", "warn", "require"] = Field(
        "off",
        description="what a model without a signature by a trusted key is: fine, logged, "
        "or refused",
    )
    trusted_keys: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="files of the public keys whose signatures count, comma-separated"
    )
    probe: bool = Field(
        True, description="try each model in a process of its own before it is loaded"
    )
    probe_memory_bytes: int = Field(
        8 * 2**30, ge=2**28, description="address space of that process"
    )
    probe_timeout_s: float = Field(
        60.0, gt=0, allow_inf_nan=False, description="time of that process"
    )

    sources: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="where models are fetched from at the start if they are new, comma-separated: "
        "sentiment=hf://org/name",
    )
    max_source_bytes: int = Field(
        8 * 2**30, ge=1, description="most that the files of one fetched version hold together"
    )

    @model_validator(mode="after")
    def _refuse_a_policy_without_keys(self) -> Self:
        if self.signatures == "require" and not self.trusted_keys:
            raise ValueError(
                "signatures=require needs trusted_keys: name the files of the public keys that "
                "`encserve keygen` wrote, or no model could ever be loaded"
            )
        return self
