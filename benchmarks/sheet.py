"""Unit costs of a server on one kind of machine, as `benchmarks.costs` measured them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

# What the server takes where it was not tuned.
MAX_BATCH_TOKENS = 128


@dataclass(frozen=True)
class RunCost:
    """Seconds of a run: of a run itself, a text, a token, and a pair of tokens that look at each
    other."""

    run_s: float
    text_s: float
    token_s: float
    pair_s: float

    def of(self, lengths: Sequence[int]) -> float:
        pairs = sum(length * length for length in lengths)
        fixed = self.run_s + self.text_s * len(lengths)
        return fixed + self.token_s * sum(lengths) + self.pair_s * pairs

    def times(self, factor: float) -> "RunCost":
        """The same on a core that is slower by `factor`."""
        return RunCost(
            *(factor * part for part in (self.run_s, self.text_s, self.token_s, self.pair_s))
        )


@dataclass(frozen=True)
class LoopCost:
    """Seconds of the event loop."""

    request_s: float
    text_s: float
    token_s: float

    def of(self, lengths: Sequence[int]) -> float:
        return self.request_s + self.text_s * len(lengths) + self.token_s * sum(lengths)


@dataclass(frozen=True)
class Costs:
    """narrow: one core of a run while the others run too; wide: the clock, one run on all cores.

    hand_over_s: what a request waits, all together, for threads that wake up.
    """

    cores: int
    narrow: RunCost
    wide: RunCost
    loop: LoopCost
    client_request_s: float
    hand_over_s: float = 0.0


@dataclass(frozen=True)
class Shape:
    """A kind of traffic: texts a request, and of each text its tokens and bytes."""

    texts: float
    tokens: float
    bytes_in: float
    bytes_out: float


@dataclass(frozen=True)
class Sheet:
    """All that a capacity sheet needs. balancer_s: HAProxy, a request of a short text; json_s: to
    read a mixed text and to write its vector; memory_mib: of a server under load."""

    costs: Costs
    balancer_s: float
    json_s: float
    memory_mib: float
    traffic: dict[str, Shape]


def read_sheet(path: Path) -> Sheet:
    found = orjson.loads(path.read_bytes())
    costs = found.pop("costs")
    shapes = {name: Shape(**shape) for name, shape in found.pop("traffic").items()}
    parts = {"narrow": RunCost, "wide": RunCost, "loop": LoopCost}
    made = {name: kind(**costs.pop(name)) for name, kind in parts.items()}
    return Sheet(costs=Costs(**costs, **made), traffic=shapes, **found)


def per_text(costs: Costs, shape: Shape) -> tuple[float, float]:
    """Core seconds of a text: in runs of full batches, and in the event loop."""
    a_run = max(1, round(MAX_BATCH_TOKENS / shape.tokens))
    run_s = costs.narrow.of([round(shape.tokens)] * a_run) / a_run
    loop_s = costs.loop.request_s / shape.texts + costs.loop.text_s
    return run_s, loop_s + costs.loop.token_s * shape.tokens
