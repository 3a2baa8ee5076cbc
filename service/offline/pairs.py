"""Pairs of texts that vectors are trained on: read, cleaned, and parted from those that judge."""

from collections.abc import Callable, Sequence
from typing import cast

from service.errors import DatasetInvalid
from service.offline.cleaning import clean
from service.offline.data import Example, ScoredPair
from service.offline.embedding_training import EmbeddingConfig
from service.offline.holding import Holding, without
from service.offline.progress import Progress
from service.offline.reading import read_belonging_pairs, read_scored_pairs
from service.offline.splits import split
from service.offline.training.processes import is_main_process

Say = Callable[[str], None]


def read_pairs_to_learn(
    data: str, dev_data: str | None, config: EmbeddingConfig, progress: Progress
) -> tuple[list[ScoredPair], list[ScoredPair]]:
    """The pairs of `data` and those of `dev_data`, which without it are a tenth of them.

    Both are cleaned as labelled texts are, and share no pair; `progress` tells what was done.

    Raises:
        DatasetInvalid: a source cannot be read, or nothing is left of it.
    """
    say = progress.say if is_main_process() else Progress.silent().say
    read = read_belonging_pairs if config.objective == "contrastive" else read_scored_pairs
    pairs = _cleaned(read(data), data, say)
    if dev_data is None:
        train, dev = split(pairs, "regression", (Holding.dev_fraction,), config.seed)
    else:
        dev = _cleaned(read(dev_data), dev_data, say)
        train = without(pairs, dev, "--dev-data", say)
    return _as_pairs(train), _as_pairs(dev)


def _cleaned(pairs: Sequence[ScoredPair], source: str, say: Say) -> list[Example]:
    found = clean([Example(p.first, p.score, p.second) for p in pairs], "regression")
    for line in found.describe():
        say(f"{source}: {line}")
    if not found.examples:
        raise DatasetInvalid(
            f"{source} has no pair to use: each needs two texts that are not empty"
        )
    return found.examples


def _as_pairs(examples: Sequence[Example]) -> list[ScoredPair]:
    return [
        ScoredPair(example.text, str(example.pair), cast(float, example.label))
        for example in examples
    ]
