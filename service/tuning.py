"""How runs are best shaped on this processor: measured by `encserve tune`, kept beside the model.

<store>/<model>/tuning.json    what was found, by version, variant and processor
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from service.errors import ModelCorrupt
from service.runtime.cpus import available_cpus, processor
from service.runtime.session import ENCODERS, open_session
from service.runtime.speed import tokens_per_s
from service.runtime.tokenizer import Tokenizer
from service.store.files import write_synced
from service.store.manifest import TOKENIZER_FILE
from service.store.repository import PublishedModel

TUNING_FILE = "tuning.json"
DEFAULT_BATCH_TOKENS = 128
BUDGETS = (64, 128, 256, 512)
ROUNDS = 3
# Rates nearer than this are not told apart on a shared machine.
AS_GOOD_AS_BEST = 0.97
# Lengths as people send them: many short texts, few long ones, as shares of the longest.
LENGTHS = (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.25, 0.35, 0.5, 1.0)


class Shape(BaseModel):
    """workers: runs side by side. threads: cores of one run. max_batch_tokens: budget of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(ge=1)
    threads: int = Field(ge=1)
    max_batch_tokens: int = Field(ge=1)

    def __str__(self) -> str:
        return (
            f"{self.workers} runs side by side, {self.threads} threads a run, "
            f"{self.max_batch_tokens} tokens a run"
        )


class Found(Shape):
    """The shape that was chosen, and what it reached."""

    tokens_per_s: float = Field(gt=0)


class _Tuning(RootModel[dict[str, Found]]):
    """What was found, by `_key`."""


@dataclass(frozen=True)
class Measured:
    """A shape, and its median rate."""

    shape: Shape
    tokens_per_s: float


Advance = Callable[[str], None]


def read_shape(model: PublishedModel, variant: str) -> Shape | None:
    """What was found for this version, variant and processor, or None.

    Raises:
        ModelCorrupt: the file is not one of ours.
    """
    return _read(_file(model)).get(_key(model, variant))


def write_shape(model: PublishedModel, variant: str, measured: Measured) -> Path:
    """Keep what was found; readers see the old file or the new one, whole."""
    path = _file(model)
    found = Found(**measured.shape.model_dump(), tokens_per_s=round(measured.tokens_per_s))
    tuning = _Tuning({**_read(path), _key(model, variant): found})
    beside = path.with_name(f".{TUNING_FILE}-{uuid4().hex}")
    write_synced(beside, tuning.model_dump_json(indent=2).encode() + b"\n")
    beside.replace(path)
    return path


def shapes(cpus: int) -> Iterator[Shape]:
    """All that are tried: a run a core, and one run on all cores, with every budget.

    Nothing between: runs side by side on one session share its threads, so that workers times
    threads is not what they get.
    """
    for threads in sorted({1, cpus}):
        for budget in BUDGETS:
            yield Shape(workers=cpus // threads, threads=threads, max_batch_tokens=budget)


def measure(
    model: PublishedModel, variant: str, *, seconds: float, advance: Advance
) -> list[Measured]:
    """The rate of every shape, in interleaved rounds that take about `seconds` together."""
    manifest = model.manifest
    file = model.file(manifest.file_of(variant))
    candidates = list(shapes(available_cpus()))
    encoder = ENCODERS[manifest.layout]
    encoders = {
        threads: encoder(
            open_session(file, threads=threads),
            manifest.output,
            manifest.width,
            manifest.pair_separator_id,
        )
        for threads in {shape.threads for shape in candidates}
    }
    texts = _texts(Tokenizer(model.file(TOKENIZER_FILE), manifest.max_tokens), manifest.max_tokens)
    rates: dict[Shape, list[float]] = {shape: [] for shape in candidates}
    for _ in range(ROUNDS):
        for shape in candidates:
            rate = tokens_per_s(
                encoders[shape.threads],
                texts,
                max_batch_tokens=shape.max_batch_tokens,
                workers=shape.workers,
                seconds=seconds / ROUNDS / len(candidates),
            )
            rates[shape].append(rate)
            advance(f"{rate:.0f} tokens/s with {shape}")
    return [Measured(shape, median(found)) for shape, found in rates.items()]


def best(measured: list[Measured]) -> Measured:
    """The fastest; of those about as fast the one with the shortest runs, so that few wait long."""
    most = max(one.tokens_per_s for one in measured)
    good = [one for one in measured if one.tokens_per_s >= AS_GOOD_AS_BEST * most]
    return min(good, key=lambda one: (one.shape.max_batch_tokens, one.shape.threads))


def _texts(tokenizer: Tokenizer, max_tokens: int) -> list[list[int]]:
    """Token ids of mixed lengths; which ids they are does not change the speed."""
    (longest,) = tokenizer.encode(["one more word and " * max_tokens])
    # Every fifth, so that neighbours differ in length.
    order = [LENGTHS[place * 5 % len(LENGTHS)] for place in range(len(LENGTHS))]
    return [longest.token_ids[: max(2, round(share * max_tokens))] for share in order]


def _file(model: PublishedModel) -> Path:
    return model.path.parent / TUNING_FILE


def _key(model: PublishedModel, variant: str) -> str:
    """A new version, another variant or another machine is tuned anew."""
    return f"version {model.manifest.version}, {variant}, {processor()}, {available_cpus()} cores"


def _read(path: Path) -> Mapping[str, Found]:
    try:
        return _Tuning.model_validate(json.loads(path.read_bytes())).root
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, ValidationError) as error:
        raise ModelCorrupt(
            f"{path} is not what `encserve tune` writes ({type(error).__name__}): remove it, and "
            "tune again"
        ) from error
