"""fp32 ONNX to int8: static scales, smoothed channel by channel, and nothing of a batch in them.

Scales of activations are measured once, on sample texts. Scales taken from each batch (dynamic
quantisation) are cheaper to make, but then a text's answer depends on its neighbours.

Before quantising, each input channel is divided by its smoothing factor, and the weights that meet
it are multiplied by it, so that a few large channels do not take all of the 8 bits (SmoothQuant,
Xiao et al., 2022, arXiv:2211.10438). docs/decisions/0006-int8.md has the measurements.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from service.runtime.cpus import available_cpus
from service.runtime.packing import LEADING_INPUT, pack
from service.runtime.session import open_session

FloatArray = npt.NDArray[np.float32]

# How much of a channel's size moves from activations to weights.
SMOOTHING = 0.75
# Processors with AVX2 but without VNNI add pairs of products in 16 bits: 2 * 255 * 63 fits; 8-bit
# weights would not, and sums would be cut off there without a word.
WEIGHT_MAX = 63
TABLE_MAX = 127
TEXTS_PER_RUN = 4
_LEAST = 1e-5


@dataclass
class Range:
    """Smallest and largest value of each channel of an activation, [d] each."""

    low: FloatArray
    high: FloatArray

    def widen(self, rows: FloatArray) -> None:
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))

    @property
    def size(self) -> FloatArray:
        return np.maximum(np.maximum(-self.low, self.high), _LEAST)


def quantize(
    source: Path,
    target: Path,
    texts: Sequence[Sequence[int]],
    separator_id: int | None = None,
) -> None:
    """Write the int8 variant of the packed model `source` to `target`.

    Linear layers multiply uint8 activations with int8 weights (7 bits used, a scale an output
    channel); embedding tables keep int8 rows with a scale each. The head, all norms and the
    attention itself stay float32.

    Args:
        texts: token ids of texts like those to be served; they set the activations' scales.
        separator_id: as in `pack`, for a model that asks for the segments of pairs.
    """
    model = onnx.load(source)
    ranges = _ranges(model, texts, separator_id)
    graph = model.graph
    nodes = list(graph.node)
    quantized = _Quantized(graph, ranges)
    del graph.node[:]
    graph.node.extend(made for node in nodes for made in quantized.replaced(node))
    _drop_unused_weights(graph)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)


class _Quantized:
    """The graph's int8 replacements, each activation quantised once for all layers that read it."""

    def __init__(self, graph: GraphProto, ranges: dict[str, Range]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._linears = _linears(graph)
        self._linear_outputs = {node.output[0] for node in self._linears}
        self._smoothing: dict[str, FloatArray] = {}

    def replaced(self, node: NodeProto) -> Iterator[NodeProto]:
        if node.output[0] in self._linear_outputs:
            if node.input[0] not in self._smoothing:
                yield from self._quantized_activation(node.input[0])
            yield self._quantized_linear(node)
        elif node.op_type == "Gather" and self._is_table(node.input[0]):
            yield from self._quantized_table(node)
        else:
            yield node

    def _quantized_activation(self, name: str) -> Iterator[NodeProto]:
        readers = [self._weight(node) for node in self._linears if node.input[0] == name]
        weight_size = np.maximum(np.abs(np.concatenate(readers, axis=1)).max(axis=1), _LEAST)
        found = self._ranges[name]
        smoothing = found.size**SMOOTHING / weight_size ** (1 - SMOOTHING)
        low = min(0.0, float((found.low / smoothing).min()))
        high = max(0.0, float((found.high / smoothing).max()))
        scale = np.float32(max(high - low, _LEAST) / 255)
        self._smoothing[name] = smoothing
        self._constant(f"{name}.inverse_smoothing", (1 / smoothing).astype(np.float32))
        self._constant(f"{name}.scale", np.array(scale))
        self._constant(f"{name}.zero_point", np.array(round(-low / scale), dtype=np.uint8))
        yield helper.make_node("Mul", [name, f"{name}.inverse_smoothing"], [f"{name}.smooth"])
        yield helper.make_node(
            "QuantizeLinear",
            [f"{name}.smooth", f"{name}.scale", f"{name}.zero_point"],
            [f"{name}.uint8"],
        )

    def _quantized_linear(self, node: NodeProto) -> NodeProto:
        activation, name = node.input[:2]
        bias = node.input[2] if len(node.input) > 2 else ""
        weight = self._weight(node) * self._smoothing[activation][:, None]
        rows, scales = _int8_rows(weight.T, WEIGHT_MAX)
        self._constant(f"{name}.int8", np.ascontiguousarray(rows.T))
        self._constant(f"{name}.scales", scales.ravel())
        # No zero point of the weights: they are symmetric.
        inputs = [f"{activation}.uint8", f"{name}.int8", f"{activation}.scale", f"{name}.scales"]
        inputs += [f"{activation}.zero_point", "", bias]
        return helper.make_node(
            "MatMulIntegerToFloat", inputs, list(node.output), domain="com.microsoft"
        )

    def _quantized_table(self, node: NodeProto) -> Iterator[NodeProto]:
        name, indices = node.input
        made = node.output[0]
        rows, scales = _int8_rows(numpy_helper.to_array(self._weights[name]), TABLE_MAX)
        self._constant(f"{name}.int8", rows)
        self._constant(f"{name}.scales", scales)
        yield helper.make_node("Gather", [f"{name}.int8", indices], [f"{made}.int8"])
        yield helper.make_node("Gather", [f"{name}.scales", indices], [f"{made}.scales"])
        yield helper.make_node("Cast", [f"{made}.int8"], [f"{made}.whole"], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{made}.whole", f"{made}.scales"], [made])

    def _is_table(self, name: str) -> bool:
        tensor = self._weights.get(name)
        return tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1

    def _weight(self, node: NodeProto) -> FloatArray:
        """The layer's weights, [inputs, outputs]; PyTorch stores them the other way round."""
        weight: FloatArray = numpy_helper.to_array(self._weights[node.input[1]]).T
        return weight

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> None:
        self._graph.initializer.append(numpy_helper.from_array(value, name))


def _linears(graph: GraphProto) -> list[NodeProto]:
    """The encoder's linear layers; those of the head stay float32: they see one row a text."""
    weights = {tensor.name for tensor in graph.initializer if tensor.name.startswith("encoder.")}
    return [node for node in graph.node if node.op_type == "Gemm" and node.input[1] in weights]


def _ranges(
    model: ModelProto, texts: Sequence[Sequence[int]], separator_id: int | None
) -> dict[str, Range]:
    """What the inputs of the linear layers hold while the model reads `texts`."""
    probe = ModelProto()
    probe.CopyFrom(model)
    names = list(dict.fromkeys(node.input[0] for node in _linears(model.graph)))
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    session = open_session(probe.SerializeToString(), threads=available_cpus())
    # All tokens, where some are spared: the vectors of all are served, and the first one's scales
    # would not do for the others.
    leading = LEADING_INPUT in {entry.name for entry in model.graph.input}
    ranges: dict[str, Range] = {}
    for start in range(0, len(texts), TEXTS_PER_RUN):
        batch = pack(texts[start : start + TEXTS_PER_RUN], separator_id)
        for name, rows in zip(names, session.run(names, batch.feeds(leading=leading)), strict=True):
            ranges.setdefault(name, Range(rows[0], rows[0])).widen(rows)
    return ranges


def _int8_rows(rows: FloatArray, largest: int) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """[n, d] -> int8 [n, d] and the scale of each row, [n, 1]; a row of zeros stays one."""
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / largest, _LEAST / largest)
    return np.round(rows / scales).astype(np.int8), scales.astype(np.float32)


def _drop_unused_weights(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
