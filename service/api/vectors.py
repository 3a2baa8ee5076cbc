"""The forms in which a vector goes out: numbers, base64, bytes, bits, or a plain array."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from starlette.datastructures import Headers
from starlette.responses import Response

from service.answers import Answer
from service.api.headers import answer_headers
from service.engine import Engine
from service.runtime.outputs import FloatArray, pack_signs, quantize_int8, quantize_uint8

EncodingFormat = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
SHAPE = "X-Vectors-Shape"

OCTET_STREAM = "application/octet-stream"
NPY = "application/x-npy"


def _signed_bits(rows: FloatArray) -> npt.NDArray[np.int8]:
    """As Cohere and sentence-transformers write bits in signed bytes: 128 less than unsigned."""
    signed: npt.NDArray[np.int8] = (pack_signs(rows).astype(np.int16) - 128).astype(np.int8)
    return signed


# The array of each form; base64 is that of the float32 numbers.
ARRAYS: Mapping[EncodingFormat, Callable[[FloatArray], npt.NDArray[Any]]] = {
    "float": lambda rows: rows,
    "base64": lambda rows: rows.astype("<f4", copy=False),
    "int8": quantize_int8,
    "uint8": quantize_uint8,
    "binary": _signed_bits,
    "ubinary": pack_signs,
}


def encode_vectors(rows: FloatArray, form: EncodingFormat) -> Sequence[object]:
    """One entry a row, as JSON takes it: an array of numbers, or a base64 string.

    Rows are cut and scaled before; rounding comes last.
    """
    encoded = ARRAYS[form](np.ascontiguousarray(rows))
    if form == "base64":
        return [base64.b64encode(row.tobytes()).decode("ascii") for row in encoded]
    return list(encoded)


def wanted_bytes(headers: Headers) -> str | None:
    """The media type, if the caller wants the bare array instead of JSON."""
    accept = headers.get("accept", "")
    return next((kind for kind in (NPY, OCTET_STREAM) if kind in accept), None)


def bytes_response(
    engine: Engine, answer: Answer, form: EncodingFormat, media_type: str
) -> Response:
    """All vectors as one array, [n, width], little-endian, row after row; or as a .npy file."""
    array = np.ascontiguousarray(ARRAYS[form](answer.rows))
    headers = answer_headers(engine, answer) | {SHAPE: ",".join(map(str, array.shape))}
    file = io.BytesIO()
    if media_type == OCTET_STREAM:
        file.write(array.tobytes())
    else:
        np.save(file, array, allow_pickle=False)
    engine.metrics.written(answer.computed_at_s)
    return Response(file.getvalue(), headers=headers, media_type=media_type)
