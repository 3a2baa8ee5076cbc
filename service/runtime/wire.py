"""Protocol buffers on the wire, read without a schema: just enough to look into an ONNX file.

The format: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT_BYTES = 10


class Malformed(ValueError):
    """The bytes are no message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: a whole number, or the bytes of a text or inner message.

    Raises:
        Malformed: the message ends inside a field, or has a kind of field that nobody writes.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind == _BYTES:
            length, position = _varint(message, position)
            value, position = _take(message, position, length)
        elif kind in (_FIXED32, _FIXED64):
            value, position = _take(message, position, 4 if kind == _FIXED32 else 8)
        else:
            raise Malformed(f"a field of kind {kind}")
        if not number:
            raise Malformed("a field without a number")
        yield number, value


def inner(value: int | memoryview) -> memoryview:
    """The value of a field that holds a message. Raises Malformed if it is a number."""
    if isinstance(value, int):
        raise Malformed("a number where a message belongs")
    return value


def text(value: int | memoryview) -> str:
    """The value of a field that holds a text. Raises Malformed if it holds none."""
    try:
        return bytes(inner(value)).decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text that is not UTF-8") from error


def integers(value: int | memoryview) -> Iterator[int]:
    """The value of a repeated field of int64, which may be packed."""
    if isinstance(value, int):
        yield _signed(value)
        return
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        yield _signed(number)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT_BYTES):
        if position + index >= len(message):
            raise Malformed("it ends inside a number")
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise Malformed("a number without an end")


def _take(message: memoryview, position: int, length: int) -> tuple[memoryview, int]:
    if length > len(message) - position:
        raise Malformed("it ends inside a field")
    return message[position : position + length], position + length


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
