"""Every knob of the server: read once from ENCSERVE_* variables, validated, then frozen."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from service.access_settings import AccessSettings
from service.log_settings import LogSettings
from service.store_settings import StoreSettings

ENV_PREFIX = "ENCSERVE_"
DEFAULT_PORT = 8080
# The other variables that Kubernetes sets for a Service called encserve.
_SERVICE_LINKS = (ENV_PREFIX + "SERVICE_", ENV_PREFIX + "PORT_")


class Settings(AccessSettings, StoreSettings, LogSettings):
    """The server's settings; each field is also the variable ENCSERVE_<FIELD IN CAPITALS>."""

    # A value may be a key, and an error about it goes to the terminal or a log.
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(
        DEFAULT_PORT, ge=0, le=65535, description="port to listen on; 0 takes a free one"
    )
    model_store: Path = Field(Path("model_store"), description="folder of the published models")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="what to serve, comma-separated: names, or name@version for another version "
        "than the current one; empty serves every model of the store",
    )
    aliases: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="other names of models, comma-separated: text-embedding-3-small=embedding",
    )

    watch_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="how often the store is looked at for new current versions; 0: only on SIGHUP "
        "and when asked",
    )
    feedback_texts: int = Field(
        20_000,
        ge=0,
        description="texts whose labels, not they themselves, are remembered for /v1/feedback",
    )
    feedback_file: Path | None = Field(
        None, description="where texts that come with feedback are appended, as JSON lines"
    )

    variant: str = Field(
        "", description="fp32 or int8; empty serves the fastest that was admitted at export"
    )
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"] = Field(
        "cpu", description="execution provider; the installed onnxruntime must have it"
    )
    provider_options: dict[str, str] = Field(
        {}, description='the provider\'s own options, as JSON: {"device_id": "1"}'
    )
    workers: int = Field(
        0, ge=0, le=256, description="model runs side by side; 0: as tuned, else every core"
    )
    run_threads: int = Field(
        0, ge=0, le=256, description="cores of one model run; 0: as tuned, else one"
    )
    wide_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="cores of a run that has the machine for itself; 0: every core up to 8; 1: off",
    )
    max_batch_tokens: int = Field(
        0, ge=0, description="tokens in one model run; 0: as tuned, else 128"
    )
    max_queue_tokens: int = Field(
        131_072, ge=1, description="tokens that may wait for one model before requests get 429"
    )
    max_queue_wait_s: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="longest wait, by the measured rate, that a request may find before it gets "
        "429; bulk requests may wait longer",
    )
    max_queue_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="memory that the callers who wait for one model may hold before requests get "
        "429",
    )
    cache_bytes: int = Field(
        64 * 2**20, ge=0, description="answers kept for texts that come again; 0 keeps none"
    )
    request_timeout_s: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="time for a request, its reading included, before it gets 504",
    )
    header_timeout_s: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="time for a request's header before it gets 408",
    )
    body_timeout_s: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="time for a request's body before it gets 408; each 16 KiB that have come "
        "give a second more",
    )
    write_timeout_s: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="time over which a caller must read 16 KiB a second of an answer that waits, "
        "before it is cut off",
    )
    bulk_idle_timeout_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="time without a line in or out, after which a bulk stream is ended",
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="time for which an idle connection is kept; longer than a balancer in front "
        "keeps its own, or its next request may meet one that just ends",
    )
    drain_s: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="time after SIGTERM in which readiness is 503 and all is still answered, so "
        "that balancers see it; then the port closes and shutdown_grace_s begins",
    )
    shutdown_grace_s: int = Field(
        20, ge=0, description="time that requests in flight then get to finish"
    )
    stuck_run_s: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="a model run that takes so long is stuck, and the server is not ready "
        "meanwhile; raise it for models whose longest text takes a good part of it",
    )
    stuck_exit_s: float = Field(
        20.0,
        ge=0,
        allow_inf_nan=False,
        description="a run that takes so long ends the process with status 70, as nothing else "
        "ends such a run; 0: never",
    )

    playground: bool = Field(True, description="the page at / for trying the models in a browser")
    show_reports: bool = Field(
        False,
        description="cards and reports of models to whoever asks; reports quote texts of the data "
        "that a model was measured on",
    )

    max_connections: int = Field(
        1000,
        ge=1,
        description="most connections; on more only probes are answered, all else gets 503",
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="largest header of a request, its first line included"
    )
    max_body_bytes: int = Field(4 * 2**20, ge=1, description="largest request body")
    max_bodies_bytes: int = Field(
        64 * 2**20,
        ge=1,
        description="request bodies held at a time, of all requests, before requests get 429",
    )
    max_bulk_line_bytes: int = Field(
        2**20, ge=64, description="longest line of a bulk stream; a longer one fails alone"
    )
    max_texts_per_request: int = Field(2048, ge=1, description="most texts in one request")
    max_explained_texts: int = Field(
        16, ge=1, description="most texts in one request for explanations"
    )
    explain_max_runs: float = Field(
        40.0,
        ge=4,
        allow_inf_nan=False,
        description="tokens that explaining a text may cost, in times the text's own",
    )
    max_token_vectors: int = Field(
        4096, ge=1, description="most tokens in one request for a vector of each token"
    )
    max_text_chars: int = Field(
        100_000, ge=1, description="longest text; a model reads less and says that it truncated"
    )

    @field_validator("port", mode="before")
    @classmethod
    def _pass_over_a_service_link(cls, port: object) -> object:
        # Kubernetes sets it so in every pod beside a Service that is called encserve.
        return DEFAULT_PORT if isinstance(port, str) and port.startswith("tcp://") else port

    @field_validator("models", "trusted_keys", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, names: object) -> object:
        if not isinstance(names, str):
            return names
        return tuple(name.strip() for name in names.split(",") if name.strip())

    @field_validator("aliases", "sources", mode="before")
    @classmethod
    def _split_pairs(cls, written: object, info: ValidationInfo) -> object:
        if not isinstance(written, str):
            return written
        pairs = [pair.partition("=") for pair in written.split(",") if pair.strip()]
        if any(not (name.strip() and meant.strip()) for name, _, meant in pairs):
            raise ValueError(f"{info.field_name} are written name=meaning, separated by commas")
        return {name.strip(): meant.strip() for name, _, meant in pairs}

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if 0 < self.stuck_exit_s <= self.stuck_run_s:
            raise ValueError(
                f"stuck_exit_s ({self.stuck_exit_s:g}) must be more than stuck_run_s "
                f"({self.stuck_run_s:g}): the balancer must see that the server is not ready "
                "before it is gone; 0 never ends the process"
            )
        if self.max_bodies_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_bodies_bytes ({self.max_bodies_bytes}) must not be less than "
                f"max_body_bytes ({self.max_body_bytes}): the largest body would never fit"
            )
        if self.max_queue_tokens < self.max_batch_tokens:
            raise ValueError(
                f"max_queue_tokens ({self.max_queue_tokens}) must not be less than "
                f"max_batch_tokens ({self.max_batch_tokens}): no full batch could ever wait"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` (None means "not given") on top.

    Raises:
        ValueError: a value is out of range, or an ENCSERVE_* variable names no setting.
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in _encserve_variables(os.environ) if name.upper() not in known)
    if unknown:
        raise ValueError(
            f"unknown settings {', '.join(unknown)}: `encserve settings` lists the known ones"
        )
    return Settings(**{name: value for name, value in overrides.items() if value is not None})


def _encserve_variables(environ: Mapping[str, str]) -> list[str]:
    return [
        name
        for name in environ
        if name.upper().startswith(ENV_PREFIX) and not name.startswith(_SERVICE_LINKS)
    ]
