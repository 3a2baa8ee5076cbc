"""Tensors of the Open Inference Protocol: as JSON, or as raw bytes behind the JSON."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.api.oip_schemas import InferInput
from service.errors import InvalidField
from service.inputs import Input, Pair

_LENGTH = struct.Struct("<I")


def split_tail(inputs: Sequence[InferInput], tail: bytes) -> list[memoryview | None]:
    """The raw bytes of each input, None for those whose data stand in the JSON.

    Raises:
        InvalidField: the sizes do not add up to what came.
    """
    view = memoryview(tail)
    parts: list[memoryview | None] = []
    taken = 0
    for tensor in inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            parts.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(view) - taken:
            raise InvalidField("binary_data_size must be what follows the JSON, in bytes")
        parts.append(view[taken : taken + size])
        taken += size
    if taken < len(view):
        raise InvalidField(
            f"{len(view) - taken} bytes behind the JSON belong to no input: name their number in "
            "binary_data_size"
        )
    return parts


def read_texts(tensor: InferInput, raw: memoryview | None, max_texts: int) -> list[Input]:
    """The texts of a BYTES tensor of shape [n] or [n, 1]; pairs of one of shape [n, 2].

    Raises:
        InvalidField: datatype, shape and data do not agree, or are not UTF-8.
    """
    if tensor.datatype != "BYTES":
        raise InvalidField("text is of datatype BYTES")
    rows, columns = _rows_and_columns(tensor.shape)
    if rows * columns > 2 * max_texts:
        raise InvalidField(
            f"{rows} texts are too many, the limit is {max_texts}: send fewer at a time, or raise "
            "ENCSERVE_MAX_TEXTS_PER_REQUEST"
        )
    if raw is None:
        texts = list(_flat(tensor.data))
    elif tensor.data is not None:
        raise InvalidField("data must be either in the JSON or behind it")
    else:
        texts = list(_elements(raw))
    if len(texts) != rows * columns:
        raise InvalidField(f"the shape asks for {rows * columns} texts, and there are {len(texts)}")
    if columns == 1:
        return list(texts)
    return [Pair(*two) for two in zip(texts[::2], texts[1::2], strict=True)]


def bytes_tensor(texts: Sequence[str]) -> bytes:
    """Texts as raw BYTES elements: length in 4 bytes, little-endian, then UTF-8."""
    encoded = [text.encode() for text in texts]
    return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)


def top_k(
    rows: npt.NDArray[np.float32], labels: Sequence[str], k: int
) -> tuple[list[str], list[int]]:
    """The classification extension: "score:index:label" of the k highest, and the shape [n, k]."""
    k = min(k, rows.shape[1])
    order = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    found = [
        f"{rows[text, index]:f}:{index}" + (f":{labels[index]}" if labels else "")
        for text, best in enumerate(order.tolist())
        for index in best
    ]
    return found, [len(rows), k]


def _rows_and_columns(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) not in (1, 2) or any(size < 1 for size in shape):
        raise InvalidField("the shape of text is [n], [n, 1], or [n, 2] for pairs, n at least 1")
    rows, columns = shape[0], shape[1] if len(shape) == 2 else 1
    if columns > 2:
        raise InvalidField("the shape of text is [n], [n, 1], or [n, 2] for pairs")
    return rows, columns


def _flat(data: Any) -> Iterator[str]:
    """Strings of a list, or of lists in a list, row after row."""
    if not isinstance(data, list):
        raise InvalidField("data must be a list of strings")
    for value in data:
        for text in value if isinstance(value, list) else (value,):
            if not isinstance(text, str):
                raise InvalidField("data of datatype BYTES are strings")
            yield text


def _elements(raw: memoryview) -> Iterator[str]:
    at = 0
    while at < len(raw):
        if len(raw) - at < _LENGTH.size:
            raise InvalidField("the data of BYTES end in the middle of a length")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if size > len(raw) - at:
            raise InvalidField("an element of BYTES is longer than the data that came")
        try:
            yield str(raw[at : at + size], "utf-8")
        except UnicodeDecodeError:
            raise InvalidField("an element of BYTES is not UTF-8") from None
        at += size
