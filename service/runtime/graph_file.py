"""What an ONNX file says of itself, read without onnxruntime and without the onnx package.

The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from service.errors import ModelFailed
from service.runtime.wire import Malformed, fields, inner, integers, text

FLOAT, INT64 = 1, 7
ELEMENT_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    16: "bfloat16",
}  # fmt: skip
_NUMPY_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_EXTERNAL = 1
_DEEPEST_GRAPH = 16


@dataclass(frozen=True)
class Port:
    """An input or output of the graph. dims: a size, or None where it is free; None: unknown."""

    name: str
    element_type: int
    dims: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Outside:
    """Weights that lie in another file. location: as the graph writes it."""

    tensor: str
    location: str
    offset: int
    length: int


@dataclass(frozen=True)
class Node:
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class GraphFile:
    """weights: dims by the tensor's name. not_numbers: tensors that hold NaN."""

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outside: list[Outside] = field(default_factory=list)
    not_numbers: list[str] = field(default_factory=list)
    has_graph: bool = False

    def table_rows(self, input_name: str) -> int | None:
        """Rows of the table in which the ids of `input_name` are looked up; None if unseen."""
        ids = {input_name}
        for node in self.nodes:
            if node.op_type in ("Cast", "Identity") and node.inputs[:1] and node.inputs[0] in ids:
                ids.update(node.outputs)
        for node in self.nodes:
            table = None
            if node.op_type == "Gather" and len(node.inputs) == 2 and node.inputs[1] in ids:
                table = node.inputs[0]
            if node.op_type == "EmbedLayerNormalization" and node.inputs[0] in ids:
                table = node.inputs[2]
            if table is not None and len(self.weights.get(table, ())) == 2:
                return self.weights[table][0]
        return None


def read_graph(path: Path) -> GraphFile:
    """Read the whole structure of an ONNX file, its inner graphs included.

    Raises:
        ModelFailed: it is empty or no ONNX file.
    """
    found = GraphFile()
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ModelFailed(f"{path.name} is empty")
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        _read_model(found, content)
    except Malformed as error:
        raise ModelFailed(f"{path.name} is no ONNX file: {error}") from None
    if not found.has_graph:
        raise ModelFailed(f"{path.name} is no ONNX file: it holds no graph")
    return found


def _read_model(found: GraphFile, message: memoryview) -> None:
    for number, value in fields(message):
        if number == 7:
            found.has_graph = True
            _read_graph(found, inner(value), 0)
        elif number == 20:  # training: two graphs
            for _, graph in fields(inner(value)):
                if not isinstance(graph, int):
                    _read_graph(found, graph, 1)
        elif number == 25:  # a function
            for part, node in fields(inner(value)):
                if part == 7:
                    _read_node(found, inner(node), 1)


def _read_graph(found: GraphFile, message: memoryview, depth: int) -> None:
    if depth > _DEEPEST_GRAPH:
        raise Malformed(f"graphs within graphs, more than {_DEEPEST_GRAPH} deep")
    ports: dict[int, list[Port]] = {11: [], 12: []}
    for number, value in fields(message):
        if number == 1:
            _read_node(found, inner(value), depth)
        elif number == 5:
            _read_tensor(found, inner(value))
        elif number in ports:
            ports[number].append(_read_port(inner(value)))
        elif number == 15:
            _read_sparse_tensor(found, inner(value))
    if not depth:
        found.inputs += [port for port in ports[11] if port.name not in found.weights]
        found.outputs += ports[12]


def _read_node(found: GraphFile, message: memoryview, depth: int) -> None:
    names: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for number, value in fields(message):
        if number in names:
            names[number].append(text(value))
        elif number == 5:
            _read_attribute(found, inner(value), depth)
    if not depth:
        found.nodes.append(Node("".join(names[4]), tuple(names[1]), tuple(names[2])))


def _read_attribute(found: GraphFile, message: memoryview, depth: int) -> None:
    for number, value in fields(message):
        if number in (5, 10):
            _read_tensor(found, inner(value))
        elif number in (6, 11):
            _read_graph(found, inner(value), depth + 1)
        elif number in (22, 23):
            _read_sparse_tensor(found, inner(value))


def _read_sparse_tensor(found: GraphFile, message: memoryview) -> None:
    for number, value in fields(message):
        if number in (1, 2):
            _read_tensor(found, inner(value))


def _read_tensor(found: GraphFile, message: memoryview) -> None:
    dims: list[int] = []
    name, element_type, external = "", 0, False
    raw: memoryview | None = None
    pairs: dict[str, str] = {}
    for number, value in fields(message):
        if number == 1:
            dims += integers(value)
        elif number == 2 and isinstance(value, int):
            element_type = value
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = inner(value)
        elif number == 13:
            external = True
            key, entry = _read_pair(inner(value))
            pairs[key] = entry
        elif number == 14:
            external = external or value == _EXTERNAL
    found.weights[name] = tuple(dims)
    if external:
        found.outside.append(_outside(name, pairs))
    elif raw is not None and _holds_nan(raw, element_type):
        found.not_numbers.append(name)


def _outside(name: str, pairs: dict[str, str]) -> Outside:
    try:
        offset, length = int(pairs.get("offset", 0)), int(pairs.get("length", 0))
    except ValueError:
        raise Malformed("weights outside at a place that is no number") from None
    return Outside(name, pairs.get("location", ""), offset, length)


def _read_pair(message: memoryview) -> tuple[str, str]:
    parts = {number: text(value) for number, value in fields(message)}
    return parts.get(1, ""), parts.get(2, "")


def _holds_nan(raw: memoryview, element_type: int) -> bool:
    kind = _NUMPY_FLOATS.get(element_type)
    if kind is None or len(raw) % np.dtype(kind).itemsize:
        return False
    # The smallest number is NaN if any is, and finding it makes no copy.
    return bool(len(raw)) and bool(np.isnan(np.frombuffer(raw, kind).min()))


def _read_port(message: memoryview) -> Port:
    name, element_type = "", 0
    dims: tuple[int | None, ...] | None = None
    for number, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:
            for kind, tensor in fields(inner(value)):
                if kind == 1:
                    element_type, dims = _read_tensor_type(inner(tensor))
    return Port(name, element_type, dims)


def _read_tensor_type(message: memoryview) -> tuple[int, tuple[int | None, ...] | None]:
    element_type = 0
    dims: tuple[int | None, ...] | None = None
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            element_type = value
        elif number == 2:
            dims = tuple(_read_dims(inner(value)))
    return element_type, dims


def _read_dims(message: memoryview) -> Iterator[int | None]:
    for number, value in fields(message):
        if number == 1:
            sizes = [size for part, size in fields(inner(value)) if part == 1]
            yield next((size for size in sizes if isinstance(size, int)), None)
