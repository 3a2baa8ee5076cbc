"""A model that answers as a test says, for numbers that can be worked out by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.offline.data import Input
from service.offline.predict import Predictor
from service.runtime.tokenizer import Tokenized
from service.store.manifest import ManifestFields, Provenance, Variant

MOODS = ("negative", "neutral", "positive")


def fields_of(labels: Sequence[str] = MOODS, **changes: Any) -> ManifestFields:
    return ManifestFields(
        **{
            "task": "classification" if labels else "embedding",
            "inputs": ("input_ids",),
            "output": "logits",
            "width": len(labels) or 4,
            "labels": tuple(labels),
            "pooling": "mean",
            "max_tokens": 32,
            "variants": {name: Variant(file=f"{name}.onnx") for name in ("fp32", "int8")},
            "default_variant": "fp32",
            "provenance": Provenance(base="tiny", base_sha256="0" * 64, libraries={"numpy": "2"}),
            **changes,
        }
    )


class Scripted(Predictor):
    """Answers each text or pair with its row of `answers`; a text has a token a word."""

    def __init__(self, fields: ManifestFields, answers: Mapping[Any, Sequence[float]]) -> None:
        self.fields = fields
        self.answers = answers
        self.variant = fields.default_variant
        # Only its speed is asked for.
        self.encoder = lambda texts: np.zeros((len(texts), fields.width), np.float32)  # type: ignore[assignment]

    def tokenize(self, inputs: Sequence[Input]) -> list[Tokenized]:
        words = [(entry if isinstance(entry, str) else " ".join(entry)).split() for entry in inputs]
        return [Tokenized(list(range(len(text))), len(text), blank=False) for text in words]

    def rows(self, inputs: Sequence[Input]) -> npt.NDArray[np.float32]:
        return np.array([self.answers[entry] for entry in inputs], dtype=np.float32)


def logits_of(*scores: float) -> list[float]:
    """What softmax makes these scores of."""
    return [float(np.log(score)) for score in scores]
