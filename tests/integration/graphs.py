"""Ways to spoil a graph; the manifest lists the new file, as whoever made the model would have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.integration.artefacts import Damage, listed


def edited(edit: Callable[[onnx.ModelProto], object]) -> Damage:
    """The graph changed, and the manifest left as it is."""

    def damage(folder: Path) -> None:
        path = folder / "model.onnx"
        model = onnx.load(path)
        edit(model)
        path.write_bytes(model.SerializeToString())

    return damage


def graph(edit: Callable[[onnx.ModelProto], object]) -> Damage:
    return listed(edited(edit))


def weights(model: onnx.ModelProto) -> TensorProto:
    """The table in which token ids are looked up, which is the largest tensor."""
    tensors: list[TensorProto] = list(model.graph.initializer)
    return max(tensors, key=lambda tensor: len(tensor.raw_data))


def with_weights(change: Callable[[Any], Any]) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        tensor = weights(model)
        changed = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), tensor.name))

    return graph(edit)


def filled(value: float) -> Damage:
    return with_weights(lambda array: np.full_like(array, value))


def outside(location: str, offset: int = 0, length: int | None = None) -> Damage:
    """The table lies in another file, as far as the graph is concerned."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = weights(model)
        said = {"location": location, "offset": offset, "length": length or len(tensor.raw_data)}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in said.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)

    return graph(edit)


def outside_in_attribute(location: str) -> Damage:
    """The same, hidden in a constant of a graph within the graph."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = TensorProto(name="hidden", data_type=1, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        constant = helper.make_node("Constant", [], ["hidden"], value=tensor)
        port = helper.make_tensor_value_info("hidden", 1, [1])
        branch = helper.make_graph([constant], "branch", [], [port])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
        model.graph.node.append(
            helper.make_node("If", ["always"], ["never"], then_branch=branch, else_branch=branch)
        )

    return graph(edit)


def opset(version: int) -> Damage:
    return graph(lambda model: setattr(model.opset_import[0], "version", version))


def operation(op_type: str, domain: str = "") -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[-1].op_type = op_type
        model.graph.node[-1].domain = domain

    return graph(edit)


def rename_input(old: str, new: str) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        for port in model.graph.input:
            port.name = new if port.name == old else port.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]

    return graph(edit)


def input_type(element_type: int) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = element_type

    return graph(edit)


def more_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, [None]))


def input_dims(*dims: int | None) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        port = model.graph.input[0]
        port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.INT64, dims))

    return graph(edit)


def append(*made: tuple[str, dict[str, Any]], constants: dict[str, Any] | None = None) -> Damage:
    """Operations behind the output, which takes the name that it had; `constants` follow it."""

    def edit(model: onnx.ModelProto) -> None:
        output = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before" if name == output else name for name in node.output]
            node.input[:] = ["before" if name == output else name for name in node.input]
        for name, value in (constants or {}).items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        names = ["before", *(f"after_{index}" for index in range(1, len(made))), output]
        for index, (op_type, options) in enumerate(made):
            extra = options.pop("inputs", ())
            model.graph.node.append(
                helper.make_node(op_type, [names[index], *extra], [names[index + 1]], **options)
            )

    return graph(edit)


def output(element_type: int, dims: list[int | str | None]) -> Damage:
    def edit(model: onnx.ModelProto) -> None:
        port = model.graph.output[0]
        port.CopyFrom(helper.make_tensor_value_info(port.name, element_type, dims))

    return graph(edit)


def rename_output(model: onnx.ModelProto) -> None:
    old = model.graph.output[0].name
    model.graph.output[0].name = "other"
    for node in model.graph.node:
        node.output[:] = ["other" if name == old else name for name in node.output]
        node.input[:] = ["other" if name == old else name for name in node.input]


def huge_tensor(model: onnx.ModelProto) -> None:
    del weights(model).dims[:]
    weights(model).dims.extend([2**40, 16])


def crash(model: onnx.ModelProto) -> None:
    """The least int64 by -1 has no int64 for an answer: the processor itself ends the process."""
    for name, value in (("least", -(2**63)), ("minus_one", -1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    model.graph.node.append(helper.make_node("Div", ["least", "minus_one"], ["crash"]))
    model.graph.output.append(helper.make_tensor_value_info("crash", TensorProto.INT64, [1]))


def endless_loop(model: onnx.ModelProto) -> None:
    carried = helper.make_node("Identity", ["condition_in"], ["condition_out"])
    count = helper.make_node("Add", ["count_in", "count_in"], ["count_out"])
    body = helper.make_graph(
        [carried, count],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count_in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count_out", TensorProto.FLOAT, [1]),
        ],
    )
    for name, value in (
        ("turns", np.array(2**62)),
        ("go_on", np.array(True)),
        ("start", np.zeros(1, np.float32)),
    ):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.append(
        helper.make_node("Loop", ["turns", "go_on", "start"], ["counted"], body=body)
    )
    model.graph.output.append(helper.make_tensor_value_info("counted", TensorProto.FLOAT, [1]))


def hungry(model: onnx.ModelProto) -> None:
    """64 GiB of zeros, with every run."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**34]), "much"))
    model.graph.node.append(helper.make_node("Shape", ["input_ids"], ["tokens"]))
    model.graph.node.append(helper.make_node("Mul", ["much", "tokens"], ["shape"]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["zeros"]))
    model.graph.output.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, [None]))
