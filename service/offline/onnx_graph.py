"""Additions to a ready-made graph: from token vectors to one vector a text.

Written for opset 13 and later, where the axes of `Unsqueeze` and `ReduceSum` are inputs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from service.errors import CheckpointInvalid
from service.offline.heads import Activation, Pooling, Projection

LEAST_OPSET = 13

_OPERATORS: dict[Activation, str] = {"tanh": "Tanh", "relu": "Relu", "identity": "Identity"}
# As torch's own normalize: a vector of zeros stays one.
_LEAST_NORM = 1e-12


class GraphEnd:
    """The end of a graph, to which steps are added: each reads what the last one made.

    Args:
        model: changed in place. output: the output to go on from; others are dropped, but for
            those that are kept.
    """

    def __init__(self, model: ModelProto, output: str) -> None:
        self._graph = model.graph
        self._opset = max(
            entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")
        )
        self._names = set(_names(model.graph))
        self._end = self._float(output)
        self._kept: list[ValueInfoProto] = []

    def keep(self, output: str, name: str, width: int) -> str:
        """Leave an output of vectors of tokens, [texts, longest, width] float32, in the graph.

        Returns its name: `name`, unless the graph uses that for something else.
        """
        made = self._named(self._float(output), name)
        self._kept.append(_output(made, "texts", "longest", width))
        return made

    def pool(self, pooling: Pooling) -> None:
        """[texts, longest, d] -> [texts, d]: the mean over the mask, or the first token."""
        if pooling == "cls":
            first = self._constant("first", np.array(0, dtype=np.int64))
            self._end = self._add("Gather", [self._end, first], axis=1)
            return
        mask = self._add("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        tokens = self._constant("tokens", np.array([1], dtype=np.int64))
        row = self._add("Unsqueeze", [mask, tokens])  # [texts, 1, longest]
        total = self._add("MatMul", [row, self._end])  # [texts, 1, d]
        count = self._add("ReduceSum", [mask, tokens], keepdims=1)  # [texts, 1]
        self._end = self._add("Div", [self._add("Squeeze", [total, tokens]), count])

    def project(self, projection: Projection) -> None:
        """[texts, d] -> [texts, width]"""
        if projection.activation not in _OPERATORS:
            raise CheckpointInvalid(
                f"a Dense step with {projection.activation} is not added to ready-made graphs: "
                "use `encserve export`"
            )
        weight = self._constant("weight", projection.dense.weight.detach().numpy())
        bias = self._constant("bias", projection.dense.bias.detach().numpy())
        made = self._add("Gemm", [self._end, weight, bias], transB=1)
        self._end = self._add(_OPERATORS[projection.activation], [made])

    def normalize(self) -> None:
        """Scale each row to unit length."""
        squares = self._add("Mul", [self._end, self._end])
        axes = self._constant("axes", np.array([1], dtype=np.int64))
        norm = self._add("Sqrt", [self._add("ReduceSum", [squares, axes], keepdims=1)])
        least = self._constant("least", np.array(_LEAST_NORM, dtype=np.float32))
        self._end = self._add("Div", [self._end, self._add("Max", [norm, least])])

    def finish(self, name: str, width: int) -> str:
        """Make what the last step made the graph's first output, [texts, width] float32.

        Returns its name: `name`, unless the graph uses that for something else.
        """
        made = self._named(self._end, name)
        del self._graph.output[:]
        self._graph.output.extend([_output(made, "texts", width), *self._kept])
        return made

    def _float(self, output: str) -> str:
        found = {entry.name: entry for entry in self._graph.output}[output]
        if found.type.tensor_type.elem_type == TensorProto.FLOAT:
            return output
        return self._add("Cast", [output], to=TensorProto.FLOAT)

    def _named(self, made: str, name: str) -> str:
        if name in self._names:
            return made
        self._names.add(name)
        self._graph.node.append(helper.make_node("Identity", [made], [name]))
        return name

    def _add(self, operator: str, inputs: Sequence[str], **attributes: int) -> str:
        if self._opset < LEAST_OPSET:
            raise CheckpointInvalid(
                f"the graph is of opset {self._opset}, and pooling is added to {LEAST_OPSET} and "
                "later: convert it with onnx.version_converter"
            )
        made = self._fresh(operator.lower())
        # At the end, so that the graph stays in order.
        node = helper.make_node(operator, inputs, [made])
        node.attribute.extend(helper.make_attribute(*entry) for entry in attributes.items())
        self._graph.node.append(node)
        return made

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        made = self._fresh(name)
        self._graph.initializer.append(numpy_helper.from_array(value, made))
        return made

    def _fresh(self, name: str) -> str:
        made = next(
            made
            for number in range(len(self._names) + 1)
            if (made := f"encserve/{name}_{number}") not in self._names
        )
        self._names.add(made)
        return made


def _output(name: str, *dims: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def give_default(file: Path, name: str, value: int) -> None:
    """Let an int64 input without dimensions be left out: it is `value` then."""
    model = onnx.load(file)
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    onnx.save(model, file)


def tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    """All constants, those of nodes and of graphs within nodes among them."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors_of(inner)


def _names(graph: GraphProto) -> Iterator[str]:
    nodes: Sequence[NodeProto] = graph.node
    for node in nodes:
        yield from (*node.input, *node.output)
    for entry in (*graph.input, *graph.output, *graph.initializer):
        yield entry.name
