"""The manifest: the contract between the half that makes a model and the half that serves it."""

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ManifestInvalid

MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"

_FILE_NAME = r"^(report/)?[A-Za-z0-9_][A-Za-z0-9._-]*$"

MODEL_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")

VERSION = re.compile(r"^[1-9][0-9]*$")

Task = Literal["embedding", "classification"]
ProblemType = Literal["single_label", "multi_label", "regression"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=_FILE_NAME)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Frozen):
    """Size and digest of one published file."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class Variant(_Frozen):
    """One ONNX file of the model, and what was measured of it when it was made.

    parity_max_abs_diff: against the PyTorch module; None for a variant that is not to be equal.
    quality: against fp32, by measure; empty for fp32 itself.
    tokens_per_s: on one core of the machine that made it, in runs of 128 tokens.
    answers_tokens: its vectors of tokens are good enough to be served, if the model has any; where
        not, `quality` says by how much they miss the bar.
    """

    file: FileName
    parity_max_abs_diff: float | None = Field(None, ge=0)
    quality: dict[str, float] = {}
    tokens_per_s: float | None = Field(None, gt=0)
    answers_tokens: bool = True


class Threshold(_Frozen):
    """From which score on a label is believed, and what that gave on held-out texts.

    precision: share of the texts at or above `score` that had the label. recall: share of the texts
    with the label that are at or above it. crosswise_precision: the precision where the threshold
    was chosen on one half of the texts and measured on the other; None where neither half believes
    any, or where it was not measured.
    """

    score: float
    precision: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    crosswise_precision: float | None = Field(None, ge=0, le=1)


class Calibration(_Frozen):
    """How the scores were made honest, on texts that training did not see.

    temperature: the logits are divided by it inside the graph (Guo et al., 2017, arXiv:1706.04599).
    ece_before, ece_after: expected calibration error of the scores without and with it.
    wanted_precision: what `thresholds` were chosen to reach; a label that cannot reach it has none.
    """

    temperature: float = Field(gt=0)
    ece_before: float = Field(ge=0, le=1)
    ece_after: float = Field(ge=0, le=1)
    wanted_precision: float = Field(gt=0, le=1)
    thresholds: dict[str, Threshold] = {}


class Provenance(_Frozen):
    """Where the weights come from."""

    base: str
    base_sha256: Sha256
    data_sha256: Sha256 | None = None
    git_commit: str | None = None
    libraries: dict[str, str]
    seed: int | None = None


class ManifestFields(_Frozen):
    """What the maker of a model states; the store adds name, version, time and digests.

    layout: how texts are laid out for the graph, see `runtime/packing.py` and `padding.py`.
    output: name of the graph's output, [texts, width] float32.
    labels: in the order of the logits; empty for embeddings.
    problem_type: what the logits are: one label of many (softmax), any number of labels (sigmoid),
        or numbers as they stand.
    pair_separator_id: the model reads pairs of texts joined by this token; None for single texts.
    prompts: named texts to be put before a text, and which of them is used when none is named.
    matryoshka_dimensions: sizes to which embeddings were trained to be cut.
    normalized: callers are given vectors of unit length.
    scaled_in_graph: the graph itself scales them, so that no others can be had.
    token_output: name of the graph's output of one vector a token: of the packed layout [tokens, d]
        float32, of the padded, and of graphs with an input `leading_tokens`, [texts, longest, d];
        None where there is none.
    max_tokens: longest input, special tokens included.
    """

    task: Task
    layout: Literal["packed", "padded"] = "packed"
    inputs: tuple[str, ...]
    output: str
    width: int = Field(ge=1)
    labels: tuple[str, ...] = ()
    problem_type: ProblemType = "single_label"
    pair_separator_id: int | None = Field(None, ge=0)
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    matryoshka_dimensions: tuple[int, ...] = ()
    calibration: Calibration | None = None
    pooling: Literal["mean", "cls"] | None
    normalized: bool = False
    scaled_in_graph: bool = True
    token_output: str | None = None
    max_tokens: int = Field(ge=2)
    variants: dict[str, Variant] = Field(min_length=1)
    default_variant: str
    metrics: dict[str, float] = {}
    provenance: Provenance

    @property
    def prompt(self) -> str:
        """What is put before each text; empty where no prompt is the default."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]

    def token_output_of(self, variant: str) -> str | None:
        """The output of one vector a token, where this variant's may be served."""
        return self.token_output if self.variants[variant].answers_tokens else None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.default_variant not in self.variants:
            raise ValueError(f"default_variant {self.default_variant!r} is not among the variants")
        labels = len(self.labels)
        if self.task == "classification" and not (labels == len(set(self.labels)) == self.width):
            raise ValueError(f"{labels} labels for {self.width} logits, or a label twice")
        if self.task == "embedding" and self.labels:
            raise ValueError("an embedding model has no labels")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt {self.default_prompt!r} is not among the prompts")
        if self.token_output is not None and self.task != "embedding":
            raise ValueError("token_output is of embedding models, and this one classifies")
        if self.token_output is not None and self.token_output == self.output:
            raise ValueError(f"output and token_output are both {self.output!r}")
        return self


class Manifest(ManifestFields):
    """`manifest.json` of one published version."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=MODEL_NAME.pattern)
    version: str = Field(pattern=VERSION.pattern)
    created_at: datetime
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _lists_what_it_names(self) -> Self:
        named = {variant.file for variant in self.variants.values()} | {TOKENIZER_FILE}
        if missing := sorted(named - self.files.keys()):
            raise ValueError(f"files not listed: {', '.join(missing)}")
        return self

    def file_of(self, variant: str) -> str:
        return self.variants[variant].file


def parse_manifest(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        ManifestInvalid: it is not JSON, or not a manifest of a schema this version knows.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise ManifestInvalid(f"{MANIFEST_FILE}: {where}: {first['msg']}") from error
