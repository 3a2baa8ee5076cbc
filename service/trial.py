"""A published model on trial: do its files fit together, and does it answer as it should?

Meant for a process of its own (`probing.py`): until all of it has passed, nothing here is trusted.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from service.errors import EncserveError, ModelCorrupt, ModelFailed
from service.runtime.graph_file import ELEMENT_TYPES, FLOAT, INT64, GraphFile, Port, read_graph
from service.runtime.outputs import FloatArray
from service.runtime.packing import LEADING_INPUT
from service.runtime.session import ENCODERS, Encoder, Session, TokenEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.golden import GOLDEN_FILE, Golden, read_golden
from service.store.manifest import TOKENIZER_FILE, Manifest
from service.store.repository import PublishedModel

# A golden row may differ by this share of its length: other processors add in another order, and
# round int8 otherwise.
GOLDEN_TOLERANCE = {"fp32": 1e-3}
GOLDEN_TOLERANCE_OF_OTHERS = 0.15
# Tables of weights are often a little longer than the vocabulary, for speed; never twice as long.
LEAST_SHARE_OF_TABLE = 0.5
MOST_SAID_CHARS = 240


def try_out(model: PublishedModel, variant: str) -> None:
    """Look at the graph, then load it, then let it answer.

    Raises:
        ModelFailed, ModelCorrupt: it does not pass.
    """
    manifest = model.manifest
    file = manifest.file_of(variant)
    graph = read_graph(model.file(file))
    check_weights(graph, manifest, model.path)
    check_ports(graph, manifest)
    check_vocabulary(graph, model.file(TOKENIZER_FILE))
    tokenizer = Tokenizer(
        model.file(TOKENIZER_FILE),
        manifest.max_tokens,
        pairs=manifest.pair_separator_id is not None,
    )
    encoder = ENCODERS[manifest.layout](
        _open(model.file(file)), manifest.output, manifest.width, manifest.pair_separator_id
    )
    check_answers(manifest, encoder, tokenizer)
    if GOLDEN_FILE in manifest.files:
        check_golden(manifest, variant, encoder, tokenizer, read_golden(model.file(GOLDEN_FILE)))


def _open(file: Path) -> Session:
    try:
        return open_session(file)
    except ModelCorrupt as error:
        # What onnxruntime says tells a wrong opset from an unknown operation.
        said = str(error.__cause__).rpartition(f"{file} failed:")[2]
        # The reason stands at the end, behind names of its source files and functions.
        reason = " ".join(said.split())[-MOST_SAID_CHARS:]
        raise ModelFailed(f"{error.message}: ... {reason}") from error


def check_weights(graph: GraphFile, manifest: Manifest, folder: Path) -> None:
    """Weights in other files lie in files of this version; all are numbers.

    Raises:
        ModelFailed: onnxruntime would read elsewhere, or beyond a file's end.
    """
    for outside in graph.outside:
        entry = manifest.files.get(outside.location)
        if entry is None or "/" in outside.location:
            raise ModelFailed(
                f"the graph takes weights from {outside.location!r}, which is no file of this "
                "version"
            )
        if min(outside.offset, outside.length) < 0 or (
            outside.offset + outside.length > (folder / outside.location).stat().st_size
        ):
            raise ModelFailed(f"the graph takes weights from beyond the end of {outside.location}")
    if graph.not_numbers:
        raise ModelFailed(f"weights are not numbers (NaN): {graph.not_numbers[0]!r}")


def check_ports(graph: GraphFile, manifest: Manifest) -> None:
    """Inputs and outputs have the names of the manifest, the types and the shapes of its layout.

    Raises:
        ModelFailed: one has not.
    """
    names = [port.name for port in graph.inputs]
    if sorted(names) != sorted(manifest.inputs):
        raise ModelFailed(f"the graph's inputs are {names}, the manifest says {manifest.inputs}")
    padded = manifest.layout == "padded"
    for port in graph.inputs:
        _require(port, "input", INT64, 2 if padded or port.name == "pad_index" else 1)
    _require(_output(graph, manifest.output), "output", FLOAT, 2)
    if manifest.token_output is not None:
        by_text = padded or LEADING_INPUT in graph.weights
        _require(_output(graph, manifest.token_output), "output", FLOAT, 3 if by_text else 2)
    dims = _output(graph, manifest.output).dims
    if dims and dims[-1] not in (None, manifest.width):
        of = f"{len(manifest.labels)} labels" if manifest.labels else f"width {manifest.width}"
        raise ModelFailed(f"the graph answers {dims[-1]} numbers a text, the manifest says {of}")


def _output(graph: GraphFile, name: str) -> Port:
    for port in graph.outputs:
        if port.name == name:
            return port
    raise ModelFailed(f"the graph has no output {name!r}, which the manifest names")


def _require(port: Port, kind: str, element_type: int, rank: int) -> None:
    if port.element_type not in (0, element_type):
        found = ELEMENT_TYPES.get(port.element_type, f"type {port.element_type}")
        raise ModelFailed(
            f"the {kind} {port.name!r} is of {found}, not of {ELEMENT_TYPES[element_type]}"
        )
    if port.dims is not None and len(port.dims) != rank:
        raise ModelFailed(f"the {kind} {port.name!r} has {len(port.dims)} dimensions, not {rank}")


def check_vocabulary(graph: GraphFile, tokenizer_file: Path) -> None:
    """The table of the graph has a row for each token of the vocabulary, and not many more.

    Raises:
        ModelFailed: tokenizer and graph do not belong together, or the former is none.
    """
    rows = graph.table_rows("input_ids")
    try:
        vocabulary = tokenizers.Tokenizer.from_file(str(tokenizer_file)).get_vocab()
    except BaseException as error:  # the library raises bare Exception, and panics beyond it
        raise ModelFailed(f"{tokenizer_file.name} is not a tokenizer") from error
    if not vocabulary:
        raise ModelFailed(f"{tokenizer_file.name} has an empty vocabulary")
    tokens = max(vocabulary.values()) + 1
    if rows is not None and not LEAST_SHARE_OF_TABLE * rows <= tokens <= rows:
        raise ModelFailed(
            f"the tokenizer has {tokens} tokens and the graph rows for {rows}: they do not belong "
            "together"
        )


def check_answers(manifest: Manifest, encoder: Encoder, tokenizer: Tokenizer) -> None:
    """A short text, the longest, one of the last token ids, and two of different lengths at once.

    Raises:
        ModelFailed: an answer is missing, not finite or of another shape.
    """
    short, long = tokenizer.encode(["warm up", "warm up " * manifest.max_tokens])
    last = [tokenizer.vocabulary_size - 1] * 3
    for texts in ([short.token_ids], [long.token_ids], [last], [short.token_ids, last[:1]]):
        _answer(encoder, texts)
    if manifest.token_output is not None:
        (rows,) = TokenEncoder(encoder, manifest.token_output)([short.token_ids])
        if rows.ndim != 2:
            raise ModelFailed(f"vectors of tokens have shape {rows.shape}")


def check_golden(
    manifest: Manifest,
    variant: str,
    encoder: Encoder,
    tokenizer: Tokenizer,
    golden: Sequence[Golden],
) -> None:
    """Each golden text has the token ids and the row that it had when the model was made.

    Raises:
        ModelFailed: one has others.
    """
    for text in golden:
        if text.text is not None and _tokenize(tokenizer, text) != list(text.token_ids):
            raise ModelFailed(
                f"a golden text has other tokens than when the model was made ({GOLDEN_FILE}): "
                "the tokenizer is another one"
            )
    asked = [text for text in golden if variant in text.rows]
    if not asked:
        return
    # Together: a text's answer does not depend on its company.
    rows = _answer(encoder, [text.token_ids for text in asked])
    for row, text in zip(rows, asked, strict=True):
        distance = _distance(row, text.rows[variant])
        if not distance <= GOLDEN_TOLERANCE.get(variant, GOLDEN_TOLERANCE_OF_OTHERS):
            raise ModelFailed(
                f"a golden text has another answer than when the model was made ({GOLDEN_FILE}): "
                f"it differs by {distance:.1%} of its length"
            )


def _tokenize(tokenizer: Tokenizer, text: Golden) -> list[int]:
    assert text.text is not None
    if text.second is None:
        return tokenizer.encode([text.text])[0].token_ids
    return tokenizer.encode_pairs([(text.text, text.second)])[0].token_ids


def _distance(row: FloatArray, expected: Iterable[float]) -> float:
    """Length of the difference, by the length of what was expected; infinite for another shape."""
    golden = np.array(list(expected), dtype=np.float32)
    if row.shape != golden.shape:
        return float("inf")
    return float(np.linalg.norm(row - golden)) / max(float(np.linalg.norm(golden)), 1e-6)


def _answer(encoder: Encoder, texts: Sequence[Sequence[int]]) -> FloatArray:
    try:
        return encoder(texts)
    except EncserveError as error:
        raise ModelFailed(error.message) from error
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's own classes share no public base
        raise ModelFailed(
            f"it fails on a text of {max(map(len, texts))} tokens: {type(error).__name__}; "
            "tokenizer and graph may not belong together"
        ) from error
