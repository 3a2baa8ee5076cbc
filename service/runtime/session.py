"""onnxruntime sessions: the options that serve, and one run from token ids to checked rows."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import (
    InferenceFailed,
    ModelCorrupt,
    NonFiniteOutput,
    ProviderUnavailable,
)
from service.runtime.packing import LEADING_INPUT, PACKED_INPUTS, PACKED_PAIR_INPUTS, pack
from service.runtime.padding import PADDED_INPUTS, pad

# From its import on, onnxruntime stores a device id in the home folder and reports to its makers.
# Nothing but this variable prevents both, and it is read at that import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

# Whoever needs onnxruntime takes it from here: imported before this module, it reports.
Session = onnxruntime.InferenceSession

FloatArray = npt.NDArray[np.float32]
Layout = Literal["packed", "padded"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

# A session's arena keeps what its largest run took, for good: gigabytes after one of 16,000 tokens.
# Giving memory back and taking it again costs a small run more than it saves.
LARGE_RUN_TOKENS = 1024


def open_session(
    model: Path | bytes,
    provider: str = "cpu",
    provider_options: Mapping[str, str] | None = None,
    *,
    threads: int = 1,
) -> onnxruntime.InferenceSession:
    """A session whose `run` may be called from several threads at once.

    With one thread the caller's does the work, so that runs side by side share the weights and
    never contend for a pool.

    Args:
        model: an ONNX file, or its content.
        threads: cores that one run uses; more than one belong to the session.
        provider: a key of `PROVIDERS`; the CPU does what another provider cannot.

    Raises:
        ProviderUnavailable: this onnxruntime lacks the provider, or it could not start; without
            the check onnxruntime would run on the CPU and only log it.
        ModelCorrupt: onnxruntime cannot load the file.
    """
    wanted = PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise ProviderUnavailable(
            f"the installed onnxruntime has no provider {provider!r} (ENCSERVE_PROVIDER): "
            f"it has {_available()}; install the onnxruntime package that carries it"
        )
    providers = [(wanted, dict(provider_options or {}))]
    if provider != "cpu":
        providers.append((PROVIDERS["cpu"], {}))
    try:
        session = onnxruntime.InferenceSession(
            model, _session_options(threads), providers=providers
        )
    except Exception as error:  # onnxruntime's own classes share no public base
        name = model.name if isinstance(model, Path) else "the model"
        raise ModelCorrupt(f"onnxruntime cannot load {name}: {type(error).__name__}") from error
    if session.get_providers()[0] != wanted:
        raise ProviderUnavailable(
            f"the provider {provider!r} (ENCSERVE_PROVIDER) could not start: its libraries or its "
            "device are missing"
        )
    return session


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for their share spin, which is what makes them worth having; they must not
    # go on when the run has ended.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A plan of memory is kept for each shape of a batch that was ever run, and few come again.
    options.enable_mem_pattern = False
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Every error is raised as well; its line in the log quotes what the model was fed.
    options.log_severity_level = 4
    return options


def _available() -> str:
    known = {name: key for key, name in PROVIDERS.items()}
    return ", ".join(known[name] for name in onnxruntime.get_available_providers() if name in known)


class Feeds(NamedTuple):
    """A batch as a graph takes it. lengths: tokens of each text."""

    arrays: Mapping[str, npt.NDArray[np.int64]]
    lengths: list[int]


class PackedEncoder:
    """A model of the packed layout: token ids of n texts, or of n pairs -> [n, width] float32.

    Args:
        separator_id: ends the first text of a pair, for models that read pairs.

    Raises:
        ModelCorrupt: the graph's inputs or outputs are not those of the packed layout.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        output: str,
        width: int,
        separator_id: int | None = None,
    ) -> None:
        self.session = session
        inputs = _names(session.get_inputs())
        if inputs not in (set(PACKED_INPUTS), set(PACKED_PAIR_INPUTS)):
            raise ModelCorrupt(f"the model's inputs are {sorted(inputs)}, not {PACKED_INPUTS}")
        if "token_type_ids" in inputs and separator_id is None:
            raise ModelCorrupt("the model reads pairs, and its manifest has no pair_separator_id")
        # Pairs of families without segments are told apart by their separators alone.
        self._separator_id = separator_id if "token_type_ids" in inputs else None
        self._leading = LEADING_INPUT in _names(session.get_overridable_initializers())
        self._rows = _Rows(session, output, width)

    def __call__(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Run one batch; safe to call from several threads.

        Raises:
            InferenceFailed: the answer has another shape than asked for.
            NonFiniteOutput: the answer holds NaN or infinity.
        """
        return self.run(self.pack(texts))

    def pack(self, texts: Sequence[Sequence[int]]) -> Feeds:
        """The first half of a call."""
        return Feeds(self.feeds(texts), list(map(len, texts)))

    def run(self, batch: Feeds) -> FloatArray:
        """The second half of a call."""
        return self._rows.of(batch)

    def feeds(self, texts: Sequence[Sequence[int]]) -> dict[str, npt.NDArray[np.int64]]:
        """The graph's inputs."""
        return pack(texts, self._separator_id).feeds()

    def token_feeds(self, texts: Sequence[Sequence[int]]) -> dict[str, npt.NDArray[np.int64]]:
        """The graph's inputs, where the vectors of all tokens are wanted."""
        return pack(texts, self._separator_id).feeds(leading=self._leading)


class PaddedEncoder:
    """A model of the padded layout, pooled in its graph: token ids of n texts -> [n, width].

    Raises:
        ModelCorrupt: the graph's inputs or outputs are not those of the padded layout.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        output: str,
        width: int,
        separator_id: int | None = None,
    ) -> None:
        self.session = session
        self._separator_id = separator_id
        self._inputs = _names(session.get_inputs())
        if not {"input_ids", "attention_mask"} <= self._inputs <= set(PADDED_INPUTS):
            raise ModelCorrupt(
                f"the model's inputs are {sorted(self._inputs)}, not some of {PADDED_INPUTS}"
            )
        self._rows = _Rows(session, output, width)

    def __call__(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Run one batch; safe to call from several threads. Raises as `PackedEncoder`."""
        return self.run(self.pack(texts))

    def pack(self, texts: Sequence[Sequence[int]]) -> Feeds:
        """The first half of a call."""
        return Feeds(self.feeds(texts), list(map(len, texts)))

    def run(self, batch: Feeds) -> FloatArray:
        """The second half of a call."""
        return self._rows.of(batch)

    def feeds(self, texts: Sequence[Sequence[int]]) -> dict[str, npt.NDArray[np.int64]]:
        """The graph's inputs."""
        arrays = pad(texts, self._separator_id)
        return {name: array for name, array in arrays.items() if name in self._inputs}

    token_feeds = feeds


Encoder = PackedEncoder | PaddedEncoder
ENCODERS: Mapping[Layout, type[Encoder]] = {"packed": PackedEncoder, "padded": PaddedEncoder}


class TokenEncoder:
    """A model's vectors of tokens: ids of n texts -> n arrays [tokens of the text, d] float32.

    It shares the session of `encoder`.

    Args:
        output: of the graph, [tokens, d] or [texts, longest, d].

    Raises:
        ModelCorrupt: the graph has no such output.
    """

    def __init__(self, encoder: Encoder, output: str) -> None:
        self._encoder = encoder
        self._output = output
        _require_output(encoder.session, output)

    def __call__(self, texts: Sequence[Sequence[int]]) -> list[FloatArray]:
        """Run one batch; safe to call from several threads. Raises as `PackedEncoder`."""
        return self.run(self.pack(texts))

    def pack(self, texts: Sequence[Sequence[int]]) -> Feeds:
        """The first half of a call."""
        return Feeds(self._encoder.token_feeds(texts), list(map(len, texts)))

    def run(self, batch: Feeds) -> list[FloatArray]:
        """The second half of a call."""
        rows = _run(self._encoder.session, self._output, batch)
        lengths = batch.lengths
        if rows.ndim == 3:
            rows = np.concatenate([row[:length] for row, length in zip(rows, lengths, strict=True)])
        if len(rows) != sum(lengths):
            raise InferenceFailed(f"the model returned {len(rows)} rows for {sum(lengths)} tokens")
        if not np.isfinite(rows).all():
            raise NonFiniteOutput("the model's answer is not a finite number")
        return np.split(rows, np.cumsum(lengths)[:-1])


class _Rows:
    """The model's one output, checked: a finite row of `width` numbers a text."""

    def __init__(self, session: onnxruntime.InferenceSession, output: str, width: int) -> None:
        self._session = session
        self._output = output
        self._width = width
        _require_output(session, output)

    def of(self, batch: Feeds) -> FloatArray:
        rows = _run(self._session, self._output, batch)
        expected = (len(batch.lengths), self._width)
        if rows.shape != expected:
            raise InferenceFailed(f"the model returned shape {rows.shape} instead of {expected}")
        if not np.isfinite(rows).all():
            raise NonFiniteOutput("the model's answer is not a finite number")
        return rows


def _run(session: onnxruntime.InferenceSession, output: str, batch: Feeds) -> FloatArray:
    """The output as it is. After a large run the arena shrinks to what it was when it opened."""
    options = None
    on_cpu = session.get_providers()[0] == PROVIDERS["cpu"]
    if on_cpu and batch.arrays["input_ids"].size > LARGE_RUN_TOKENS:
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    (rows,) = session.run([output], batch.arrays, options)
    found: FloatArray = rows
    return found


def _require_output(session: onnxruntime.InferenceSession, output: str) -> None:
    if output not in _names(session.get_outputs()):
        raise ModelCorrupt(f"the model has no output {output!r}")


def _names(nodes: Sequence[onnxruntime.NodeArg]) -> set[str]:
    return {node.name for node in nodes}
