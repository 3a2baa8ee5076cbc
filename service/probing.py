"""Does a published model do what it should? Tried in a process of its own, under limits.

A graph that crashes onnxruntime, eats memory or never ends does so there, and not in the server.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.errors import EncserveError, ModelFailed
from service.runtime.outputs import FloatArray
from service.runtime.session import ENCODERS, Encoder, TokenEncoder, open_session
from service.runtime.tokenizer import Tokenizer
from service.store.golden import GOLDEN_FILE, read_golden
from service.store.manifest import TOKENIZER_FILE, Manifest
from service.store.repository import PublishedModel, read_version

# A golden row may differ by this share of its length: other processors add in another order, and
# round int8 otherwise.
GOLDEN_TOLERANCE = {"fp32": 1e-3, "int8": 0.15}


def probe(model: PublishedModel, variant: str, *, memory_bytes: int, timeout_s: float) -> None:
    """Load the variant in a child process, and let it answer.

    Raises:
        ModelFailed: it does not load, does not answer as it should, or hits a limit.
    """
    command = [sys.executable, "-m", "service.probing", str(model.path), variant]
    name = f"{model.manifest.name}@{model.manifest.version}, {variant}"
    try:
        ran = subprocess.run(
            [*command, str(memory_bytes)],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ModelFailed(
            f"{name}: no answer within {timeout_s:g} s (ENCSERVE_PROBE_TIMEOUT_S)"
        ) from None
    if ran.returncode == 0:
        return
    if ran.returncode < 0:
        raise ModelFailed(
            f"{name}: the process that tried it was ended by signal {-ran.returncode}: the graph "
            "crashes onnxruntime, or needs more than ENCSERVE_PROBE_MEMORY_BYTES"
        )
    raise ModelFailed(f"{name}: {_reason(ran.stdout)}")


def check_answers(
    manifest: Manifest, variant: str, encoder: Encoder, tokenizer: Tokenizer, golden: Path
) -> None:
    """Raise unless the model answers a short text, the longest, and those of the golden file.

    Raises:
        ModelFailed: an answer is missing, not finite, of another shape, or not the golden one.
    """
    short, long = tokenizer.encode(["warm up", "warm up " * manifest.max_tokens])
    last = [tokenizer.vocabulary_size - 1] * 3
    for token_ids in (short.token_ids, long.token_ids, last):
        _answer(encoder, [token_ids])
    if manifest.token_output is not None:
        (rows,) = TokenEncoder(encoder, manifest.token_output)([short.token_ids])
        if rows.ndim != 2:
            raise ModelFailed(f"vectors of tokens have shape {rows.shape}")
    for text in read_golden(golden) if golden.exists() else ():
        expected = np.array(text.rows.get(variant, ()), dtype=np.float32)
        if len(expected) and not _near(_answer(encoder, [text.token_ids])[0], expected, variant):
            raise ModelFailed(
                f"a golden text has another answer than when the model was made ({GOLDEN_FILE})"
            )


def _answer(encoder: Encoder, texts: Sequence[Sequence[int]]) -> FloatArray:
    try:
        return encoder(texts)
    except EncserveError as error:
        raise ModelFailed(error.message) from error
    except Exception as error:  # onnxruntime's own classes share no public base
        raise ModelFailed(
            f"it fails on a text of {len(texts[0])} tokens: {type(error).__name__}; tokenizer and "
            "graph may not belong together"
        ) from error


def _near(row: FloatArray, expected: FloatArray, variant: str) -> bool:
    if row.shape != expected.shape:
        return False
    distance = float(np.linalg.norm(row - expected))
    return distance <= GOLDEN_TOLERANCE[variant] * max(float(np.linalg.norm(expected)), 1e-6)


def _reason(output: bytes) -> str:
    """What the child says of the failure; its words are ours."""
    try:
        return str(json.loads(output)["error"])
    except (ValueError, KeyError, TypeError):
        return "the process that tried it ended without a word"


def main(folder: Path, variant: str, memory_bytes: int) -> int:
    """In the child: 0 if all is well, else the reason on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # A crash is expected here, and its core file is of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        model = read_version(folder)
        manifest = model.manifest
        pairs = manifest.pair_separator_id is not None
        tokenizer = Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens, pairs=pairs)
        session = open_session(model.file(manifest.file_of(variant)))
        encoder = ENCODERS[manifest.layout](
            session, manifest.output, manifest.width, manifest.pair_separator_id
        )
        check_answers(manifest, variant, encoder, tokenizer, model.file(GOLDEN_FILE))
    except EncserveError as error:
        print(json.dumps({"error": error.message}))
        return 1
    except MemoryError:
        print(json.dumps({"error": "it needs more memory than ENCSERVE_PROBE_MEMORY_BYTES"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
