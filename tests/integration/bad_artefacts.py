"""Artefacts that must never serve: what was done to each, and how its refusal reads."""

from onnx import TensorProto

from tests.integration import artefacts as make
from tests.integration import graphs
from tests.integration.artefacts import Damage

CORRUPT, INVALID = "model_corrupt", "manifest_invalid"
FAILED, UNFOUND, UNSIGNED = "model_failed", "published_model_not_found", "signature_invalid"

Kind = tuple[Damage, str, str]

FILES: dict[str, Kind] = {
    **{
        f"graph cut at {eighths} eighths": (
            make.cut("model.onnx", eighths / 8), CORRUPT, r"model.onnx has \d+ bytes",
        )
        for eighths in range(8)
    },
    "graph longer": (make.lengthen("model.onnx"), CORRUPT, r"model.onnx has \d+ bytes"),
    "bit flipped in the graph": (make.flip("model.onnx"), CORRUPT, "model.onnx .* digest"),
    "bit flipped in the tokenizer": (make.flip("tokenizer.json"), CORRUPT, "tokenizer.json .*dig"),
    "bit flipped in the golden texts": (make.flip("golden.json"), CORRUPT, "golden.json .*digest"),
    "graph missing": (make.remove("model.onnx"), CORRUPT, "model.onnx is missing"),
    "tokenizer missing": (make.remove("tokenizer.json"), CORRUPT, "tokenizer.json is missing"),
    "graph renamed": (make.move("model.onnx", "model2.onnx"), CORRUPT, r"\['model2.onnx'\]"),
    "pickle beside": (make.add("weights.pkl"), CORRUPT, r"not list: \['weights.pkl'\]"),
    "hidden file beside": (make.add(".hidden"), CORRUPT, r"not list: \['.hidden'\]"),
    "file in a folder": (make.add("report/x.pkl"), CORRUPT, "not list: .*'report/x.pkl'"),
    "folder without files": (
        lambda folder: (folder / "more").mkdir(), CORRUPT, r"not list: \['more'\]",
    ),
    "weights beside, not listed": (make.add("model.onnx.data"), CORRUPT, "model.onnx.data"),
    "name that is not UTF-8": (make.add(b"\xff\xfe"), CORRUPT, r"\\udcff\\udcfe"),
    "link to the same bytes": (make.soft_link("model.onnx"), CORRUPT, "model.onnx is a link"),
    "link to nowhere": (
        lambda folder: (folder / "more").symlink_to("/nowhere"), CORRUPT, "not list",
    ),
    "hard link": (make.hard_link("tokenizer.json"), CORRUPT, "tokenizer.json has another name"),
    "pipe": (make.fifo("tokenizer.json"), CORRUPT, "tokenizer.json is not a regular file"),
    "socket": (make.socket("model.onnx"), CORRUPT, "model.onnx is not a regular file"),
    "folder instead of the graph": (make.folder_instead("model.onnx"), CORRUPT, "model.onnx"),
}  # fmt: skip

MANIFESTS: dict[str, Kind] = {
    "no manifest": (make.remove("manifest.json"), UNFOUND, "holds no published model|not there"),
    "empty manifest": (make.cut("manifest.json", 0), INVALID, "EOF"),
    "manifest cut": (make.cut("manifest.json", 0.5), INVALID, "manifest"),
    "manifest not UTF-8": (make.add("manifest.json", b'{"\xff": 1}'), INVALID, "JSON"),
    "manifest a list": (make.add("manifest.json", b"[]"), INVALID, "object|dictionary"),
    "manifest nested deeply": (make.add("manifest.json", b"[" * 100_000), INVALID, "recursion"),
    "manifest far too long": (make.add("manifest.json", b" " * 2**23), CORRUPT, "longer than"),
    "manifest a link": (make.soft_link("manifest.json"), CORRUPT, "manifest.json is a link"),
    "manifest a pipe": (make.fifo("manifest.json"), CORRUPT, "manifest.json is not a regular"),
    "manifest a folder": (make.folder_instead("manifest.json"), CORRUPT, "is a folder"),
    "schema of the future": (make.stated(schema_version=2), INVALID, "schema_version"),
    "unknown field": (make.stated(surprise=1), INVALID, "surprise"),
    "no number": (make.stated(metrics={"accuracy": float("nan")}), INVALID, "accuracy"),
    "no variant": (make.stated(variants={}), INVALID, "variants"),
    "unknown default variant": (make.stated(default_variant="int4"), INVALID, "int4"),
    "variant of an unlisted file": (
        make.stated(variants={"fp32": {"file": "other.onnx"}}), INVALID, "other.onnx",
    ),
    "no files": (make.stated(files={}), INVALID, "not listed: model.onnx"),
    "size that lies": (make.file_entry("model.onnx", bytes=7), CORRUPT, "its manifest says 7"),
    "negative size": (make.file_entry("model.onnx", bytes=-1), INVALID, "files.model.onnx.bytes"),
    "digest that lies": (
        make.file_entry("model.onnx", sha256="0" * 64), CORRUPT, "model.onnx .* digest",
    ),
    "digest of another kind": (make.file_entry("model.onnx", sha256="md5"), INVALID, "sha256"),
    "file outside": (
        make.file_entry("../x", bytes=1, sha256="0" * 64), INVALID, r"files.*pattern",
    ),
    "absolute file": (
        make.file_entry("/etc/passwd", bytes=1, sha256="0" * 64), INVALID, r"files.*pattern",
    ),
    "no task": (make.without("task"), INVALID, "task"),
    "unknown layout": (make.stated(layout="sparse"), INVALID, "layout"),
    "labels of an embedding": (make.stated(labels=["a", "b"]), INVALID, "no labels"),
    "longest text of no tokens": (make.stated(max_tokens=0), INVALID, "max_tokens"),
    "manifest of another model": (make.stated(name="other"), CORRUPT, "holds other version 1"),
    "older version played again": (make.stated(version="9"), CORRUPT, "holds .* version 9"),
    "pointer to nowhere": (make.pointer(b"7"), UNFOUND, "names version 7"),
    "pointer that is not UTF-8": (make.pointer(b"\xff"), CORRUPT, "is no version"),
    "pointer of two lines": (make.pointer(b"1\n2"), CORRUPT, "is no version"),
    "pointer with a path": (make.pointer(b"../other/1"), CORRUPT, "is no version"),
    "empty pointer": (make.pointer(b""), CORRUPT, "is no version"),
    "endless pointer": (make.pointer(b"1" * 100), CORRUPT, "longer than 64"),
}  # fmt: skip

GRAPHS: dict[str, Kind] = {
    "graph of nothing": (make.listed(make.cut("model.onnx", 0)), FAILED, "model.onnx is empty"),
    "graph of text": (make.listed(make.add("model.onnx", b"hello")), FAILED, "no ONNX file"),
    "graph cut by its maker": (make.listed(make.cut("model.onnx", 0.4)), FAILED, "ends inside"),
    "message without a graph": (make.listed(make.add("model.onnx", b"\x08\x08")), FAILED, "no gr"),
    "weights in a folder above": (graphs.outside("../../secret"), FAILED, "'../../secret'"),
    "weights at an absolute path": (graphs.outside("/etc/passwd"), FAILED, "'/etc/passwd'"),
    "weights in memory": (graphs.outside("*/_ORT_MEM_ADDR_/*"), FAILED, "_ORT_MEM_ADDR_"),
    "weights in no file": (graphs.outside(""), FAILED, "weights from ''"),
    "weights in a missing file": (graphs.outside("model.onnx.data"), FAILED, "model.onnx.data"),
    "weights in an inner graph's file": (
        graphs.outside_in_attribute("../x"), FAILED, "weights from '../x'",
    ),
    "weights beyond the end": (
        graphs.outside("tokenizer.json", length=10**9), FAILED, "beyond the end of tokenizer.json",
    ),
    "weights before the start": (
        graphs.outside("tokenizer.json", offset=-8), FAILED, "beyond the end of tokenizer.json",
    ),
    "weights that are not numbers": (graphs.filled(float("nan")), FAILED, r"\(NaN\)"),
    "weights without end": (graphs.filled(float("inf")), FAILED, "not a finite number"),
    "weights of another model": (
        graphs.with_weights(lambda array: array[::-1] * 1.5), FAILED, "golden text .* answer",
    ),
    "tensor of 64 TiB": (graphs.graph(graphs.huge_tensor), FAILED, "do not belong together|load"),
    "opset of the future": (graphs.opset(999), FAILED, "opset"),
    "unknown operation": (graphs.operation("Imagine"), FAILED, "Imagine"),
    "unknown domain": (graphs.operation("Add", "com.example"), FAILED, "com.example"),
    "input of another name": (
        graphs.rename_input("input_ids", "ids"), FAILED, "inputs are .*'ids'",
    ),
    "input too many": (graphs.graph(graphs.more_inputs), FAILED, "inputs are .*'more'"),
    "input of int32": (graphs.input_type(TensorProto.INT32), FAILED, "int32, not of int64"),
    "input of three dimensions": (graphs.input_dims(None, None, None), FAILED, "3 dimensions"),
    "input of a fixed size": (graphs.input_dims(4), FAILED, "fails on"),
    "output of another name": (graphs.graph(graphs.rename_output), FAILED, "no output 'embedding'"),
    "output of float64": (
        graphs.append(("Cast", {"to": TensorProto.DOUBLE})), FAILED, "load|float64",
    ),
    "output said to be float64": (graphs.output(TensorProto.DOUBLE, [None, 16]), FAILED, "float64"),
    "output of three dimensions": (graphs.output(1, [None, 1, 16]), FAILED, "3 dimensions"),
    "output wider than stated": (graphs.output(1, [None, 17]), FAILED, "17 numbers .* width 16"),
    "output wider in truth": (
        graphs.append(
            ("Concat", {"inputs": ["before"], "axis": 1}),
        ), FAILED, r"shape|numbers|load",
    ),
    "width that lies": (make.stated(width=17), FAILED, "16 numbers .* width 17"),
    "inputs that lie": (make.stated(inputs=["input_ids"]), FAILED, "manifest says .*input_ids"),
    "output that is not there": (make.stated(output="logits"), FAILED, "no output 'logits'"),
    "vectors of tokens that are not there": (
        make.stated(token_output="none"), FAILED, "no output 'none'",
    ),
    "longest text that lies": (make.stated(max_tokens=64), FAILED, "64 tokens"),
    "layout that lies": (make.stated(layout="padded"), FAILED, "dimensions"),
    "tokenizer that is none": (
        make.listed(make.add("tokenizer.json", b"{}")), FAILED, "is not a tokenizer",
    ),
    "tokenizer with more tokens": (
        make.vocabulary(lambda words: words | {f"new{n}": len(words) + n for n in range(99)}),
        FAILED, r"\d+ tokens and the graph rows for",
    ),
    "tokenizer with far fewer tokens": (
        make.vocabulary(lambda words: dict(list(words.items())[:9])), FAILED, "rows for",
    ),
    "tokenizer in another order": (
        make.vocabulary(
            lambda words: {
                word: place for place, word in enumerate([*list(words)[:4], *list(words)[:3:-1]])
            }
        ),
        FAILED, "golden text has other tokens",
    ),
    "golden texts that are none": (
        make.listed(make.add("golden.json", b"[1]")), FAILED, "golden.json is not what",
    ),
    "golden texts of another width": (
        make.golden(lambda texts: [text["rows"]["fp32"].pop() for text in texts]), FAILED, "inf",
    ),
    "answer that depends on its company": (
        graphs.append(
            # Alone a text is its own mean.
            ("ReduceMean", {"inputs": ["axes"], "keepdims": 1}),
            ("Add", {"inputs": ["before"]}),
            ("Sub", {"inputs": ["before"]}),
            constants={"axes": [0]},
        ), FAILED, "golden text has another answer",
    ),
    "graph that crashes": (graphs.graph(graphs.crash), FAILED, "ended with signal"),
    "graph that never ends": (graphs.graph(graphs.endless_loop), FAILED, "no answer within"),
    "graph that eats memory": (graphs.graph(graphs.hungry), FAILED, "memory|fails on|alloc"),
}  # fmt: skip

SIGNATURES: dict[str, Kind] = {
    "not signed": (make.remove("manifest.sig"), UNSIGNED, "is not signed"),
    "empty signature": (make.cut("manifest.sig", 0), UNSIGNED, "not signed with a key"),
    "signature cut": (make.cut("manifest.sig", 0.5), UNSIGNED, "signed with|not readable"),
    "signature of noise": (make.add("manifest.sig", b"\xff\x00"), UNSIGNED, "not readable"),
    "signature a link": (make.soft_link("manifest.sig"), UNSIGNED, "not readable"),
    "signature a pipe": (make.fifo("manifest.sig"), UNSIGNED, "not readable"),
    "manifest edited after it was signed": (make.stated(normalized=False), UNSIGNED, "signed with"),
    "files exchanged with their digests": (graphs.filled(0.5), UNSIGNED, "signed with"),
}
