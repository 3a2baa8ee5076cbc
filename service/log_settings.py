"""The knobs of log lines and traces, part of `Settings`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class LogSettings(BaseSettings):
    """What is written down of a server's requests, and where it goes."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="least severe log lines that are written; info tells every request but probes "
        "and scrapes, warning those that failed by our fault",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="how log lines are written; auto: text on a terminal, JSON elsewhere"
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://([^/?#@\s]+@)?[^/?#@\s]+(/\S*)?)?$",
        description="where traces are sent by OTLP over HTTP, such as http://collector:4318; what "
        "is special in a password is written with %; empty: there are none. Needs the extra 'otel'",
    )
    trace_sample_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="share of the requests that are traced, of those whose caller leaves it open",
    )
