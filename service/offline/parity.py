"""Proof that the ONNX file computes what the PyTorch module does, in the session that serves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from service.errors import ParityFailed
from service.offline.heads import TaskModel
from service.offline.progress import Progress
from service.offline.training.batches import packed_tensors
from service.runtime.session import PackedEncoder, open_session

BATCH_SIZES = (1, 2, 7, 32)
LENGTHS = (1, 2, 17, 128, 512)
# Both sides are float32 and sum in another order; measured differences stay below a tenth of this.
MAX_ABS_DIFF = 1e-4


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
    """Compare on a grid of batch sizes and lengths, uniform and mixed.

    Args:
        separator_id: the model reads pairs with their segments, and this token parts them.

    Raises:
        ParityFailed: a number differs by more than `MAX_ABS_DIFF`.
    """
    session = open_session(onnx_file)
    encoder = PackedEncoder(session, model.output_name, model.width, separator_id)
    cases = list(_cases(model, separator_id, np.random.default_rng(seed)))
    worst = 0.0
    with progress.phase(f"{name}: parity", len(cases)) as phase:
        for texts in cases:
            # PyTorch sees each text alone: the ONNX batch must not let neighbours leak either.
            with torch.inference_mode():
                alone = [model(*packed_tensors([text], separator_id)) for text in texts]
            expected = torch.cat(alone).numpy()
            difference = float(np.abs(encoder(texts) - expected).max())
            if not difference <= MAX_ABS_DIFF:
                raise ParityFailed(
                    f"{onnx_file.name} differs from PyTorch by {difference:.2e} on {len(texts)} "
                    f"texts of {min(map(len, texts))} to {max(map(len, texts))} tokens; "
                    f"allowed is {MAX_ABS_DIFF:.0e}; nothing was published"
                )
            worst = max(worst, difference)
            phase.advance(f"largest difference {worst:.1e}")
    return ParityReport(worst, len(cases))


def _cases(
    model: TaskModel, separator_id: int | None, rng: np.random.Generator
) -> Iterator[list[list[int]]]:
    config = model.encoder.config
    longest, vocabulary = config.max_positions, config.vocabulary_size
    lengths = sorted({min(length, longest) for length in LENGTHS})
    for batch_size in BATCH_SIZES:
        uniform = [[length] * batch_size for length in lengths]
        mixed = rng.choice(lengths, size=batch_size).tolist()
        for case in [*uniform, mixed]:
            yield [random_ids(rng, length, vocabulary, separator_id) for length in case]


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
