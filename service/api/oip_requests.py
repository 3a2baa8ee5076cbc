"""Reading a request of the Open Inference Protocol: JSON, and raw tensors behind it."""

import zlib

from starlette.requests import Request

from service.api.dialects import OIP
from service.api.requests import StrictRoute, body_too_large, parse_json, read_body
from service.errors import InvalidField, UnsupportedMediaType
from service.settings import Settings

HEADER_LENGTH = "Inference-Header-Content-Length"

# zlib's number for "gzip or zlib, as the data say".
_EITHER_HEADER = 32 + zlib.MAX_WBITS


class OipRoute(StrictRoute):
    """A route of the Open Inference Protocol; its clients send no Content-Type.

    What stands behind the JSON is noted in the request's state, as `tail`.
    """

    dialect = OIP

    async def read_value(self, request: Request, settings: Settings) -> object:
        body = await read_body(request, settings)
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("gzip", "deflate"):
            body = decompressed(body, settings.max_body_bytes)
            request.state.held_body.take(len(body))
        elif encoding != "identity":
            raise UnsupportedMediaType("bodies are read as they are, or as gzip or deflate")
        length = _header_length(request, len(body))
        request.state.tail = body[length:]
        return parse_json(body[:length])


def decompressed(body: bytes, max_bytes: int) -> bytes:
    """What gzip or deflate holds, never more than `max_bytes` of it in memory.

    Raises:
        BodyTooLarge: it holds more.
        InvalidField: it is neither, or cut off.
    """
    decompressor = zlib.decompressobj(_EITHER_HEADER)
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        raise InvalidField("the body is not what its Content-Encoding says") from None
    if len(content) > max_bytes:
        raise body_too_large(max_bytes)
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidField("the compressed body is cut off, or goes on behind its end")
    return content


def _header_length(request: Request, body_bytes: int) -> int:
    """Bytes of the JSON: all, unless the header says otherwise."""
    value = request.headers.get(HEADER_LENGTH)
    if value is None:
        return body_bytes
    if not (value.isascii() and value.isdecimal() and int(value[:12]) <= body_bytes):
        raise InvalidField(f"{HEADER_LENGTH} must be the length of the JSON, in bytes")
    return int(value)
