"""Ways to spoil a published version: its files, its manifest, its signature, its graph.

Each takes the folder of a version. Those of the graph list the new files in the manifest, as
whoever made the model would have.
"""

import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

Damage = Callable[[Path], object]


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def lengthen(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"x")

    return damage


def flip(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def add(name: str | bytes, content: bytes = b"x") -> Damage:
    def damage(folder: Path) -> None:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return damage


def move(name: str, to: str) -> Damage:
    return lambda folder: (folder / name).rename(folder / to)


def soft_link(name: str) -> Damage:
    def damage(folder: Path) -> None:
        elsewhere = (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(elsewhere)

    return damage


def hard_link(name: str) -> Damage:
    return lambda folder: os.link(folder / name, folder.parent / "elsewhere")


def special(name: str, kind: int) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mknod(folder / name, kind | 0o600)

    return damage


def fifo(name: str) -> Damage:
    return special(name, stat.S_IFIFO)


def socket(name: str) -> Damage:
    return special(name, stat.S_IFSOCK)


def folder_instead(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def pointer(content: bytes) -> Damage:
    return lambda folder: (folder.parent / "current").write_bytes(content)


def manifest(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        said = json.loads(path.read_text())
        edit(said)
        path.write_text(json.dumps(said))

    return damage


def stated(**fields: object) -> Damage:
    return manifest(lambda said: said.update(fields))


def without(field: str) -> Damage:
    return manifest(lambda said: said.pop(field))


def file_entry(name: str, **fields: object) -> Damage:
    return manifest(lambda said: said["files"].setdefault(name, {}).update(fields))


def relist(folder: Path) -> None:
    """Write the folder's files into its manifest, as they are."""

    def edit(said: dict[str, Any]) -> None:
        names = {path.name for path in folder.iterdir()} - {"manifest.json", "manifest.sig"}
        said["files"] = {
            name: {
                "bytes": (folder / name).stat().st_size,
                "sha256": sha256((folder / name).read_bytes()).hexdigest(),
            }
            for name in sorted(names)
        }

    manifest(edit)(folder)


def listed(*damages: Damage) -> Damage:
    """The damages, and then a manifest that lists the files as they are."""

    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)
        relist(folder)

    return damage


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


def vocabulary(change: Callable[[dict[str, int]], dict[str, int]]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "tokenizer.json"
        said = json.loads(path.read_text())
        said["model"]["vocab"] = change(said["model"]["vocab"])
        path.write_text(json.dumps(said))
        tokenizers.Tokenizer.from_file(str(path))

    return listed(damage)


def golden(edit: Callable[[list[dict[str, Any]]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "golden.json"
        texts = json.loads(path.read_text())
        edit(texts)
        path.write_text(json.dumps(texts))

    return listed(damage)
