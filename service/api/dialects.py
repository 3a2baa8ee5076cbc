"""How each dialect says that something went wrong: its statuses and the shape of its bodies.

Bodies carry a sentence and mostly a stable code, never what the caller sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from service import errors
from service.errors import EncserveError

Statuses = Mapping[type[EncserveError], int]

# The nearest ancestor in a table counts.
OWN_STATUS: Statuses = {
    errors.InvalidRequest: 400,
    errors.Unauthorized: 401,
    errors.AdminDisabled: 403,
    errors.UnknownModel: 404,
    errors.UnknownPage: 404,
    errors.UnknownRequest: 404,
    errors.ModelNotFound: 404,
    errors.BodyTooSlow: 408,
    errors.HeaderTooSlow: 408,
    errors.VersionMismatch: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Overloaded: 429,
    errors.HeaderTooLarge: 431,
    errors.ShuttingDown: 503,
    errors.TooManyConnections: 503,
    errors.DeadlineExceeded: 504,
    EncserveError: 500,
}

# As text-embeddings-inference: what cannot be understood is a 422, a wrong task the model's fault.
TEI_STATUS: Statuses = {
    **OWN_STATUS,
    errors.InvalidRequest: 422,
    errors.InvalidJson: 400,
    errors.EmptyInput: 400,
    errors.BlankText: 400,
    errors.WrongTask: 424,
    errors.InferenceFailed: 424,
}

TEI_TYPES = {
    errors.EmptyInput: "Empty",
    errors.BlankText: "Empty",
    errors.InvalidRequest: "Validation",
    errors.VersionMismatch: "Validation",
    errors.WrongTask: "Backend",
    errors.InferenceFailed: "Backend",
    errors.Overloaded: "Overloaded",
    errors.DeadlineExceeded: "Overloaded",
    EncserveError: "Unhealthy",
}


@dataclass(frozen=True)
class Dialect:
    """statuses: by error. body: of an error's class, code, message, param and status."""

    statuses: Statuses
    body: Callable[[type[EncserveError], str, str, str | None, int], bytes]

    def status_of(self, error: type[EncserveError]) -> int:
        return self.statuses[nearest(error, self.statuses)]


def nearest(
    error: type[EncserveError], table: Mapping[type[EncserveError], object]
) -> type[EncserveError]:
    """The nearest ancestor of `error` that stands in `table`."""
    return next(cls for cls in error.__mro__ if cls in table)


def _own_body(
    error: type[EncserveError], code: str, message: str, param: str | None, status: int
) -> bytes:
    """Ours, which is also what OpenAI's clients parse."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return orjson.dumps({"error": {"code": code, "message": message, "param": param, "type": kind}})


def _tei_body(
    error: type[EncserveError], code: str, message: str, param: str | None, status: int
) -> bytes:
    return orjson.dumps({"error": message, "error_type": TEI_TYPES[nearest(error, TEI_TYPES)]})


def _oip_body(
    error: type[EncserveError], code: str, message: str, param: str | None, status: int
) -> bytes:
    return orjson.dumps({"error": message if param is None else f"{param}: {message}"})


OWN = Dialect(OWN_STATUS, _own_body)
TEI = Dialect(TEI_STATUS, _tei_body)
OIP = Dialect(OWN_STATUS, _oip_body)
