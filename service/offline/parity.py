"""Proof that an ONNX file computes what the PyTorch module does, in a session as it serves.

But for the cores: here a run takes all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.errors import EncserveError, NonFiniteOutput, ParityFailed
from service.offline.heads import TOKEN_OUTPUT, EmbeddingGraph, TaskModel, graph_of, output_names
from service.offline.progress import Progress
from service.offline.training.batches import packed_tensors
from service.runtime.cpus import available_cpus
from service.runtime.session import PackedEncoder, TokenEncoder, open_session

BATCH_SIZES = (1, 2, 7, 32)
LENGTHS = (1, 2, 17, 128, 512)
# Both sides are float32 and sum in another order; measured differences stay below a tenth of this.
MAX_ABS_DIFF = 1e-4

Texts = list[list[int]]
FloatArray = npt.NDArray[np.float32]
# A batch to some of the graph's outputs, [rows, d] each.
Run = Callable[[Texts], Sequence[FloatArray]]


@dataclass(frozen=True)
class ParityReport:
    """The largest difference over all cases, and how many there were."""

    max_abs_diff: float
    cases: int


def check_parity(
    model: TaskModel,
    onnx_file: Path,
    progress: Progress,
    name: str,
    *,
    separator_id: int | None = None,
    seed: int = 7,
) -> ParityReport:
    """Compare a model of the packed layout with its file on the `grid`.

    Args:
        separator_id: the model reads pairs with their segments, and this token parts them.

    Raises:
        ParityFailed: a number differs by more than `MAX_ABS_DIFF`.
    """
    session = open_session(onnx_file, threads=available_cpus())
    encoder = PackedEncoder(session, model.output_name, model.width, separator_id)
    config = model.encoder.config
    cases = grid(config.max_positions, config.vocabulary_size, separator_id, seed)
    graph = graph_of(model)

    def outputs(text: list[int]) -> tuple[Tensor, ...]:
        made = graph(*packed_tensors([text], separator_id))
        return made if isinstance(made, tuple) else (made,)

    runs: list[Run] = [lambda texts: [encoder(texts)]]
    if TOKEN_OUTPUT in output_names(graph):
        if isinstance(graph, EmbeddingGraph) and graph.spares_tokens:
            # Asked for all tokens, the graph takes another way.
            runs.append(all_tokens(TokenEncoder(encoder, TOKEN_OUTPUT)))
        else:
            both = [model.output_name, TOKEN_OUTPUT]
            runs = [lambda texts: session.run(both, encoder.feeds(texts))]
    return prove_equal(runs, outputs, cases, progress, name)


def all_tokens(encoder: TokenEncoder) -> Run:
    """The vectors of all tokens of a batch, one below the other: [t, d]."""
    return lambda texts: [np.concatenate(encoder(texts))]


def prove_equal(
    runs: Sequence[Run],
    reference: Callable[[list[int]], Sequence[Tensor]],
    cases: Sequence[Texts],
    progress: Progress,
    name: str,
) -> ParityReport:
    """Compare the batches that the file runs with each of their texts alone.

    Args:
        runs: all outputs of the graph together, in their order.
        reference: PyTorch's answer to one text, an output each, [rows, d]: it sees each text alone,
            so that neighbours that leak into a batch show.

    Raises:
        ParityFailed: a number differs by more than `MAX_ABS_DIFF`, or the file fails on a batch.
        NonFiniteOutput: the file answers NaN or infinity.
    """
    worst = 0.0
    # A text of the grid stands in several batches.
    answers: dict[tuple[int, ...], Sequence[Tensor]] = {}
    with progress.phase(f"{name}: parity", len(cases)) as phase:
        for texts in cases:
            alone = [tuple(text) for text in texts]
            with torch.inference_mode():
                answers |= {text: reference([*text]) for text in {*alone} - answers.keys()}
            found = [rows for run in runs for rows in _outputs(run, texts)]
            wanted = zip(*(answers[text] for text in alone), strict=True)
            for rows, expected in zip(found, wanted, strict=True):
                difference = _difference(rows, torch.cat(expected))
                if not difference <= MAX_ABS_DIFF:
                    raise ParityFailed(
                        f"the ONNX file differs from PyTorch by {difference:.2e} on "
                        f"{_shape(texts)}; allowed is {MAX_ABS_DIFF:.0e}; nothing was published"
                    )
                worst = max(worst, difference)
            phase.advance(f"largest difference {worst:.1e}")
    return ParityReport(worst, len(cases))


def grid(longest: int, vocabulary: int, separator_id: int | None, seed: int = 7) -> list[Texts]:
    """Batches of all sizes and lengths, uniform and mixed, of random ids, and one longest text.

    A smaller batch is of texts of the largest, so that few texts are to be answered alone.
    """
    rng = np.random.default_rng(seed)
    lengths = sorted({min(length, longest) for length in LENGTHS})
    texts = {
        length: [random_ids(rng, length, vocabulary, separator_id) for _ in range(max(BATCH_SIZES))]
        for length in lengths
    }
    batches = [texts[length][:size] for size in BATCH_SIZES for length in lengths]
    for size in BATCH_SIZES:
        mixed = rng.choice(lengths, size=size).tolist()
        batches.append([texts[length][row] for row, length in enumerate(mixed)])
    if longest > lengths[-1]:
        batches.append([random_ids(rng, longest, vocabulary, separator_id)])
    return batches


def random_ids(
    rng: np.random.Generator, length: int, vocabulary: int, separator_id: int | None
) -> list[int]:
    """Ids of a text, or of a pair with its one separator in the middle."""
    if separator_id is None:
        text: list[int] = rng.integers(vocabulary, size=length).tolist()
        return text
    # All ids but the separator's: what would be it or above is moved up by one.
    ids = rng.integers(vocabulary - 1, size=length)
    ids[ids >= separator_id] += 1
    ids[length // 2] = separator_id
    pair: list[int] = ids.tolist()
    return pair


def _difference(rows: Tensor, expected: Tensor) -> float:
    if not rows.isfinite().all():
        raise NonFiniteOutput("the ONNX file's answer is not a finite number")
    # Of other shapes one might be spread over the other.
    return float((rows - expected).abs().max()) if rows.shape == expected.shape else math.inf


def _outputs(run: Run, texts: Texts) -> list[Tensor]:
    try:
        return [torch.from_numpy(rows) for rows in run(texts)]
    except EncserveError:
        raise
    except Exception as error:  # onnxruntime's own classes share no public base
        raise ParityFailed(
            f"the ONNX file fails on {_shape(texts)}: {type(error).__name__}; nothing was published"
        ) from error


def _shape(texts: Texts) -> str:
    return f"{len(texts)} texts of {min(map(len, texts))} to {max(map(len, texts))} tokens"
