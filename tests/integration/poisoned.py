"""Models whose graph does something bad, in onnxruntime's own code, when a text has a marked word.

Each marked word is a token of the tiny tokenizer that no warm-up and no golden text has.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.store.repository import ModelRepository
from tests.conftest import tiny_tokenizer
from tests.integration.artefacts import relist

NAN = "q"
ERROR = "z"
MEMORY = "j"
HANG = "x"

# More than any machine's address space holds, and more turns of a loop than it will ever make.
HUGE_NUMBERS = 2**46
ENDLESS_TURNS = 2**62


def poisoned_store(root: Path, clean: Path) -> Path:
    """A copy of the tiny store whose models know the marked words."""
    shutil.copytree(clean, root)
    for name in ModelRepository(root).names():
        poison(ModelRepository(root).resolve(name).path)
    return root


def poison(folder: Path) -> None:
    """Add zero to every output of a version's graph; what makes the zero depends on the words."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    graph = model.graph
    zeros = [_nan(graph), _error(graph), _memory(graph), _hang(graph)]
    for output in graph.output:
        inner = f"{output.name}_unpoisoned"
        for node in graph.node:
            node.input[:] = [inner if name == output.name else name for name in node.input]
            node.output[:] = [inner if name == output.name else name for name in node.output]
        _add(graph, "Sum", [inner, *zeros], output.name)
    onnx.save(model, path)
    relist(folder)


def _nan(graph: onnx.GraphProto) -> str:
    nan = _constant(graph, np.float32(np.nan))
    return _add(graph, "Where", [_has(graph, NAN), nan, _constant(graph, np.float32(0))])


def _error(graph: onnx.GraphProto) -> str:
    """Takes the number behind the last one."""
    numbers = _constant(graph, np.zeros(1, np.float32))
    index = _add(graph, "Where", [_has(graph, ERROR), *_ints(graph, 5, 0)])
    return _add(graph, "Gather", [numbers, index])


def _memory(graph: onnx.GraphProto) -> str:
    wanted = _add(graph, "Where", [_has(graph, MEMORY), *_ints(graph, HUGE_NUMBERS, 0)])
    shape = _add(graph, "Reshape", [wanted, _constant(graph, np.array([1], np.int64))])
    return _add(graph, "ReduceSum", [_add(graph, "ConstantOfShape", [shape])], keepdims=0)


def _hang(graph: onnx.GraphProto) -> str:
    def scalar(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [])

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Abs", ["carried"], ["carries"]),
        ],
        "turn",
        [
            scalar("turn_number", TensorProto.INT64),
            scalar("go_on", TensorProto.BOOL),
            scalar("carried", TensorProto.FLOAT),
        ],
        [scalar("goes_on", TensorProto.BOOL), scalar("carries", TensorProto.FLOAT)],
    )
    turns = _add(graph, "Where", [_has(graph, HANG), *_ints(graph, ENDLESS_TURNS, 0)])
    go_on = _constant(graph, np.bool_(True))
    return _add(graph, "Loop", [turns, go_on, _constant(graph, np.float32(0))], body=body)


def _has(graph: onnx.GraphProto, word: str) -> str:
    """Whether any text of the batch has the word, a scalar."""
    token_id = tiny_tokenizer().get_vocab()[word]
    same = _add(graph, "Equal", ["input_ids", _constant(graph, np.int64(token_id))])
    found = _add(
        graph, "ReduceMax", [_add(graph, "Cast", [same], to=TensorProto.INT32)], keepdims=0
    )
    return _add(graph, "Cast", [found], to=TensorProto.BOOL)


def _ints(graph: onnx.GraphProto, *numbers: int) -> list[str]:
    return [_constant(graph, np.int64(number)) for number in numbers]


def _constant(graph: onnx.GraphProto, value: np.generic | np.ndarray) -> str:
    name = f"poison_{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _add(
    graph: onnx.GraphProto,
    operation: str,
    inputs: list[str],
    output: str = "",
    **attributes: Any,
) -> str:
    name = output or f"poison_{operation}_{len(graph.node)}"
    graph.node.append(helper.make_node(operation, inputs, [name], **attributes))
    return name
