"""What a model's own texts looked like when it was made, to see how far later ones have moved."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import ModelCorrupt

REFERENCE_FILE = "reference.json"

# Upper ends of the buckets, the last bucket open: of any two neighbours the one below counts.
TOKENS_EDGES = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
UNKNOWN_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
CONFIDENCE_EDGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Histogram(BaseModel):
    """shares: one more than edges, of all texts; a value belongs to the first edge not below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...]
    shares: tuple[float, ...] = Field(min_length=1)


class Reference(BaseModel):
    """Histograms by feature, without a text.

    tokens: length of a text. unknown: share of its tokens that the vocabulary lacks. label: which
    label won, by its place. confidence: its probability. distance: 1 minus the cosine of a vector
    with `centroid`, the mean direction of the vectors of the reference, [width].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int = Field(ge=1)
    features: dict[str, Histogram]
    centroid: tuple[float, ...] = ()


def read_reference(path: Path) -> Reference:
    """The reference of a version.

    Raises:
        ModelCorrupt: the file is not one of ours.
    """
    try:
        return Reference.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelCorrupt(f"{path.name} is not what export writes") from error
