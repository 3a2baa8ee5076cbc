"""The reference histograms of a model, made of some of the texts it was made on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.offline.data import Input
from service.offline.predict import Predictor
from service.runtime.features import features_of
from service.store.manifest import ManifestFields
from service.store.reference import (
    CONFIDENCE_EDGES,
    REFERENCE_FILE,
    TOKENS_EDGES,
    UNKNOWN_EDGES,
    Histogram,
    Reference,
)

MOST_TEXTS = 512
DISTANCE_BUCKETS = 10


def write_reference(folder: Path, fields: ManifestFields, inputs: Sequence[Input]) -> None:
    """Write what the default variant makes of the first of `inputs` into the folder."""
    predictor = Predictor(folder, fields, fields.default_variant)
    inputs = inputs[:MOST_TEXTS]
    texts = [entry.token_ids for entry in predictor.tokenize(inputs)]
    embeds = fields.task == "embedding"
    rows = predictor.rows(inputs) if embeds else predictor.scores(inputs)
    mean = rows.mean(axis=0)
    centroid = mean / max(float(np.linalg.norm(mean)), 1e-12) if embeds else mean[:0]
    found = features_of(texts, rows, predictor.tokenizer.unknown_id, centroid)
    edges = {
        "tokens": TOKENS_EDGES,
        "unknown": UNKNOWN_EDGES,
        "confidence": CONFIDENCE_EDGES,
        "label": tuple(float(place) for place in range(max(1, len(fields.labels) - 1))),
    }
    if embeds:
        steps = np.linspace(0, 1, DISTANCE_BUCKETS + 1)[1:-1]
        edges["distance"] = tuple(np.unique(np.quantile(found["distance"], steps)).tolist())
    reference = Reference(
        texts=len(texts),
        features={name: _histogram(values, edges[name]) for name, values in found.items()},
        centroid=tuple(centroid.tolist()),
    )
    (folder / REFERENCE_FILE).write_text(reference.model_dump_json() + "\n")


def _histogram(values: Sequence[float], edges: tuple[float, ...]) -> Histogram:
    places = np.searchsorted(edges, values, side="left")
    counts = np.bincount(places, minlength=len(edges) + 1)
    return Histogram(edges=edges, shares=tuple((counts / len(values)).tolist()))
