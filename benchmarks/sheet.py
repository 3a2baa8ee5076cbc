"""Unit costs of a server on one kind of machine, as `benchmarks.costs` measured them."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class LoopCost:
    """Seconds of the event loop."""

    request_s: float
    text_s: float
    token_s: float

    def of(self, lengths: Sequence[int]) -> float:
        return self.request_s + self.text_s * len(lengths) + self.token_s * sum(lengths)


@dataclass(frozen=True)
class PartLoad:
    """What holds where the cores are at work for the share `busy` of the time.

    times: how many times dearer the event loop is than `LoopCost` says, and the load generator.
    woken_s: what a thread that sleeps waits for a core when there is something to do for it.
    worker_woken_s: the same of one that runs models, which sleeps and wakes more than once a run.
    """

    busy: float
    times: float = 1.0
    woken_s: float = 0.0
    worker_woken_s: float = 0.0


@dataclass(frozen=True)
class Costs:
    """narrow: a run on one core; wide: one on all of them; both with nothing beside them.

    crowded: how many times longer a run takes while others are under way: they take the
        interpreter, the caches and the units of the cores from one another.
    loop, client_request_s: at full speed; client_timer_s: more, if a timer sends the request.
    part_loads: in order of `busy`.
    """

    cores: int
    narrow: RunCost
    wide: RunCost
    loop: LoopCost
    client_request_s: float
    client_timer_s: float = 0.0
    crowded: float = 1.0
    part_loads: tuple[PartLoad, ...] = ()

    def at(self, busy: float) -> PartLoad:
        """Between the part loads that are known in a line, beyond them as at the last."""
        known = self.part_loads
        if not known:
            return PartLoad(busy)
        above = bisect_left(known, busy, key=lambda one: one.busy)
        if above in (0, len(known)):
            return known[min(above, len(known) - 1)]
        low, high = known[above - 1], known[above]
        share = (busy - low.busy) / (high.busy - low.busy)
        return PartLoad(
            busy,
            low.times + share * (high.times - low.times),
            low.woken_s + share * (high.woken_s - low.woken_s),
            low.worker_woken_s + share * (high.worker_woken_s - low.worker_woken_s),
        )


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
    if "part_loads" not in costs:
        raise SystemExit(f"{path} lacks part loads: measure it again with benchmarks.costs --out")
    shapes = {name: Shape(**shape) for name, shape in found.pop("traffic").items()}
    parts = {"narrow": RunCost, "wide": RunCost, "loop": LoopCost}
    made: dict[str, Any] = {name: kind(**costs.pop(name)) for name, kind in parts.items()}
    made["part_loads"] = tuple(PartLoad(**one) for one in costs.pop("part_loads"))
    return Sheet(costs=Costs(**costs, **made), traffic=shapes, **found)


def per_text(costs: Costs, shape: Shape) -> tuple[float, float]:
    """Core seconds of a text: in runs of full batches, and in the event loop."""
    a_run = max(1, round(MAX_BATCH_TOKENS / shape.tokens))
    run_s = costs.crowded * costs.narrow.of([round(shape.tokens)] * a_run) / a_run
    loop_s = costs.loop.request_s / shape.texts + costs.loop.text_s
    return run_s, loop_s + costs.loop.token_s * shape.tokens
