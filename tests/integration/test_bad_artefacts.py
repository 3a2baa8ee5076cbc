"""Forty and more ways in which a published version can be bad: each refused with its own reason."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from service.errors import EncserveError
from service.loading import load_engines
from service.metrics import Metrics
from service.settings import load_settings
from service.store.golden import GOLDEN_FILE
from service.store.manifest import ManifestFields
from service.store.repository import ModelRepository, PublishedModel
from service.store.signing import SIGNATURE_FILE, make_key, sign

Spoil = Callable[[Path], object]


def load(store: Path, **settings: object) -> None:
    """Load the current version as a server does."""
    configured = load_settings(model_store=store, models=("embedding",), **settings)
    load_engines(configured, Metrics(CollectorRegistry()))


def refusal(store: Path, **settings: object) -> str:
    """The code and the message of the refusal."""
    with pytest.raises(EncserveError) as refused:
        load(store, **settings)
    return f"{refused.value.code}: {refused.value.message}"


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_store / "embedding", tmp_path / "store" / "embedding")
    return tmp_path / "store"


def test_version_as_it_was_published_is_loaded(store: Path) -> None:
    load(store)


# --- files that are not those of the manifest


def flip(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return spoil


def cut(share: float) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(data[: int(len(data) * share)])

    return spoil


def replace(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / "elsewhere")
        make(folder / name)

    return spoil


def elsewhere(path: Path) -> Path:
    return path.parent.parent / "elsewhere"


FILES: dict[str, tuple[Spoil, str]] = {
    **{
        f"cut at {share}": (cut(share), r"model\.onnx has \d+ bytes")
        for share in (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999)
    },
    "bit of the graph": (flip("model.onnx"), r"model\.onnx is not the file .* digest"),
    "bit of the tokenizer": (flip("tokenizer.json"), r"tokenizer\.json is not the file"),
    "bit of the golden texts": (flip(GOLDEN_FILE), r"golden\.json is not the file"),
    "graph missing": (lambda f: (f / "model.onnx").unlink(), r"model\.onnx is missing"),
    "tokenizer missing": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "extra file": (lambda f: (f / "model.onnx.data").write_bytes(b"x"), "not list.*onnx.data"),
    "extra pickle": (lambda f: (f / "x.pkl").write_bytes(b"x"), r"not list.*x\.pkl"),
    "renamed": (lambda f: (f / "model.onnx").rename(f / "model2.onnx"), "not list.*model2"),
    "name that is not UTF-8": (
        lambda f: (Path(os.fsdecode(os.fsencode(f) + b"/\xff"))).write_bytes(b"x"),
        "holds files",
    ),
    "link": (replace("model.onnx", lambda p: p.symlink_to(elsewhere(p))), "is a link"),
    "link to nowhere": (replace("model.onnx", lambda p: p.symlink_to("/nowhere")), "is a link"),
    "hard link": (replace("model.onnx", lambda p: p.hardlink_to(elsewhere(p))), "hard link"),
    "pipe": (replace("model.onnx", lambda p: os.mkfifo(p)), "not a regular file"),
    "folder": (replace("model.onnx", lambda p: p.mkdir()), r"model\.onnx is missing"),
}


@pytest.mark.parametrize(("spoil", "reason"), FILES.values(), ids=FILES.keys())
def test_files_that_are_not_those_published_are_refused(
    store: Path, spoil: Spoil, reason: str
) -> None:
    spoil(store / "embedding" / "1")
    with pytest.raises(EncserveError, match=reason) as refused:
        load(store)
    assert refused.value.code == "model_corrupt"
    assert "\n" not in refused.value.message


# --- manifests that say something else


def changed(**changes: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda manifest: manifest | changes


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda manifest: {key: value for key, value in manifest.items() if key != name}


def entry(**change: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoil(manifest: dict[str, Any]) -> dict[str, Any]:
        files = dict(manifest["files"])
        files["model.onnx"] = files["model.onnx"] | change
        return manifest | {"files": files}

    return spoil


def with_file(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda m: m | {"files": m["files"] | {name: {"bytes": 1, "sha256": "0" * 64}}}


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "schema of the future": (changed(schema_version=2), "manifest_invalid.*schema_version"),
    "unknown field": (changed(trusted=True), "manifest_invalid.*trusted"),
    "no task": (without("task"), "manifest_invalid.*task"),
    "unknown layout": (changed(layout="sparse"), "manifest_invalid.*layout"),
    "another name": (changed(name="other"), "model_corrupt.*holds other"),
    "another version": (changed(version="2"), "model_corrupt.*version 2"),
    "size": (entry(bytes=5), r"model_corrupt.*bytes, its manifest says 5"),
    "negative size": (entry(bytes=-5), "manifest_invalid.*bytes"),
    "digest": (entry(sha256="0" * 64), "model_corrupt.*digest"),
    "half a digest": (entry(sha256="0" * 32), "manifest_invalid.*sha256"),
    "path out of the folder": (with_file("../x"), "manifest_invalid.*files"),
    "absolute path": (with_file("/etc/passwd"), "manifest_invalid.*files"),
    "unknown default variant": (changed(default_variant="int4"), "manifest_invalid.*int4"),
    "labels of an embedding": (changed(labels=["a"]), "manifest_invalid.*labels"),
    "unlisted file of a variant": (
        lambda m: m | {"variants": {"fp32": {"file": "more.onnx"}}},
        "manifest_invalid.*more.onnx",
    ),
    "width": (changed(width=15), r"model_failed.*\(1, 16\)"),
    "output": (changed(output="logits"), "model_failed.*no output 'logits'"),
    "output of tokens": (changed(token_output="none"), "model_failed.*no output 'none'"),
    "layout": (changed(layout="padded"), "model_failed.*inputs"),
    "longest input": (changed(max_tokens=64), "model_failed.*64 tokens"),
}


@pytest.mark.parametrize(("spoil", "reason"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_manifest_that_says_something_else_is_refused(
    store: Path, spoil: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    path = store / "embedding" / "1" / "manifest.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    assert re.search(reason, refusal(store))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": NaN}'], ids=repr
)
def test_manifest_that_is_none_is_refused(store: Path, content: bytes) -> None:
    (store / "embedding" / "1" / "manifest.json").write_bytes(content)
    assert refusal(store).startswith("manifest_invalid")


@pytest.mark.parametrize("pointer", [b"", b"2", b"../1", b"\xff", b"1\n2"], ids=repr)
def test_pointer_to_no_version_is_refused(store: Path, pointer: bytes) -> None:
    (store / "embedding" / "current").write_bytes(pointer)
    assert refusal(store).startswith(("model_corrupt", "published_model_not_found"))


# --- files that were published as they are, and do not do what they should


def published(store: Path, spoil: Spoil) -> PublishedModel:
    """A version of the same model whose files were spoilt before they were listed."""
    repository = ModelRepository(store)
    model = repository.resolve("embedding")
    with repository.draft("embedding") as draft:
        for file in model.manifest.files:
            (draft.path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model.file(file), draft.path / file)
        spoil(draft.path)
        fields = {field: getattr(model.manifest, field) for field in ManifestFields.model_fields}
        return draft.publish(ManifestFields(**fields))


def graph(change: Callable[[ModelProto], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return spoil


def fill(value: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
                array = np.full(tuple(tensor.dims), value, np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


def shift(model: ModelProto) -> None:
    tensor = next(one for one in model.graph.initializer if "token.weight" in one.name)
    moved = np.roll(numpy_helper.to_array(tensor), 7, axis=0)
    tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))


def external(location: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = next(one for one in model.graph.initializer if len(one.dims) == 2)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def unknown_operator(model: ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperator"


def opset_of_the_future(model: ModelProto) -> None:
    model.opset_import[0].version = 9999


def huge_tensor(model: ModelProto) -> None:
    """Reads as some terabytes once it is computed."""
    shape = numpy_helper.from_array(np.array([2**40], dtype=np.int64), "huge_shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["huge"], ["huge_sum"], keepdims=0))
    first = model.graph.output[0].name
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == first:
                node.output[place] = "before_huge"
    model.graph.node.append(helper.make_node("Add", ["before_huge", "huge_sum"], [first]))


def larger_vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({f"more{n}": len(vocabulary) + n for n in range(50)})
    path.write_text(json.dumps(tokenizer))


CONTENTS: dict[str, tuple[Spoil, str]] = {
    "no graph": (lambda f: (f / "model.onnx").write_bytes(b"no graph"), "cannot load"),
    "empty graph": (lambda f: (f / "model.onnx").write_bytes(b""), "cannot load|no output"),
    "unknown operator": (graph(unknown_operator), "cannot load"),
    "opset of the future": (graph(opset_of_the_future), "cannot load"),
    "weights of NaN": (graph(fill(float("nan"))), "finite"),
    "infinite weights": (graph(fill(float("inf"))), "finite"),
    "other weights": (graph(shift), "golden text"),
    "data in the folder above": (graph(external("../../secret.bin")), "cannot load"),
    "data anywhere": (graph(external("/etc/passwd")), "cannot load"),
    "data that are missing": (graph(external("weights.bin")), "cannot load"),
    "more memory than there is": (graph(huge_tensor), "fails|signal|memory"),
    "larger vocabulary": (larger_vocabulary, "may not belong together"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer"),
    "no golden texts": (lambda f: (f / GOLDEN_FILE).write_text("[{}]"), "not what export writes"),
}


@pytest.mark.parametrize(("spoil", "reason"), CONTENTS.values(), ids=CONTENTS.keys())
def test_model_that_does_not_do_what_it_should_is_refused(
    store: Path, spoil: Spoil, reason: str
) -> None:
    published(store, spoil)
    with pytest.raises(EncserveError, match=reason) as refused:
        load(store, probe_memory_bytes=4 * 2**30)
    assert refused.value.code == "model_failed"
    assert "\n" not in refused.value.message


def test_graph_that_never_answers_is_given_up(store: Path) -> None:
    assert "ENCSERVE_PROBE_TIMEOUT_S" in refusal(store, probe_timeout_s=0.01)


# --- signatures


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "key")
    return tmp_path / "key"


def signed(store: Path, key: Path) -> None:
    sign(ModelRepository(store).resolve("embedding"), key)


def test_signature_by_a_trusted_key_is_enough(store: Path, key: Path) -> None:
    signed(store, key)
    load(store, signatures="require", trusted_keys=f"{key}.pub")


def no_signature(store: Path, key: Path) -> None:
    pass


def signature_of_another_key(store: Path, key: Path) -> None:
    make_key(key.with_name("other"))
    signed(store, key.with_name("other"))


def signature_of_another_manifest(store: Path, key: Path) -> None:
    signed(store, key)
    path = store / "embedding" / "1" / "manifest.json"
    path.write_text(path.read_text().replace('"seed"', ' "seed"'))


def signature_of_an_older_version(store: Path, key: Path) -> None:
    signed(store, key)
    newer = published(store, lambda folder: None)
    shutil.copy(store / "embedding" / "1" / SIGNATURE_FILE, newer.path / SIGNATURE_FILE)


def no_base64(store: Path, key: Path) -> None:
    (store / "embedding" / "1" / SIGNATURE_FILE).write_bytes(b"\xff" * 64)


@pytest.mark.parametrize(
    "spoil",
    [
        no_signature,
        signature_of_another_key,
        signature_of_another_manifest,
        signature_of_an_older_version,
        no_base64,
    ],
)
def test_signature_that_does_not_count_is_refused_or_told(
    store: Path, key: Path, spoil: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(store, key)
    keys = f"{key}.pub"
    assert refusal(store, signatures="require", trusted_keys=keys).startswith("signature_invalid")
    load(store, signatures="warn", trusted_keys=keys, probe=False)
    assert "sign" in caplog.text
    load(store, signatures="off", probe=False)
