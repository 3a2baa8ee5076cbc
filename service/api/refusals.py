"""What a connection is told that is refused below the application."""

from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api.dialects import OWN
from service.errors import (
    EncserveError,
    HeaderTooLarge,
    HeaderTooSlow,
    InvalidHttp,
    TooManyConnections,
)
from service.settings import Settings

RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a connection, each the setting of the same name."""

    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    write_timeout_s: float

    def too_many_connections(self) -> TooManyConnections:
        return TooManyConnections(
            f"more than {self.max_connections} connections are open: come again later, or raise "
            "ENCSERVE_MAX_CONNECTIONS"
        )

    def header_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(
            f"the request line and the header have more than {self.max_header_bytes} bytes: send "
            "less, or raise ENCSERVE_MAX_HEADER_BYTES"
        )

    def header_too_slow(self) -> HeaderTooSlow:
        return HeaderTooSlow(
            f"the header did not arrive within {self.header_timeout_s:g} s: send it faster, or "
            "raise ENCSERVE_HEADER_TIMEOUT_S"
        )


def limits_of(settings: Settings) -> Limits:
    return Limits(
        settings.max_connections,
        settings.max_header_bytes,
        settings.header_timeout_s,
        settings.write_timeout_s,
    )


def invalid_http() -> InvalidHttp:
    return InvalidHttp("what was sent is not valid HTTP/1.1")


def written(refusal: EncserveError) -> bytes:
    """A whole answer, header and body, in our own dialect: which route was meant is not known."""
    status = OWN.status_of(type(refusal))
    body = OWN.body(type(refusal), refusal.code, refusal.message, None, status)
    retry = f"retry-after: {RETRY_AFTER_S}\r\n" if status == 503 else ""
    header = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{retry}"
        "connection: close\r\n\r\n"
    )
    return STATUS_LINE[status] + header.encode("ascii") + body
