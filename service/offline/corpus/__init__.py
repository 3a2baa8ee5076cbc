"""The sentiment corpus written for this project, one TSV file a kind of text."""

import random
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from service.offline.data import Example
from service.offline.reading import read_examples

SENTIMENT_LABELS = ("negative", "neutral", "positive")


def load_sentiment_corpus() -> list[Example]:
    """Every sentence of the corpus."""
    folder = resources.files(__name__)
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".tsv")), key=lambda f: f.name
    )
    return [example for file in files for example in read_examples(Path(str(file)))]


def join_to_mixed_lengths(sentences: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """Texts of one to twenty of the sentences, in lengths as people send them."""
    rng = random.Random(seed)
    lengths = [rng.choice((1, 1, 1, 2, 2, 4, 8, 20)) for _ in range(count)]
    return [" ".join(rng.choices(sentences, k=length)) for length in lengths]
