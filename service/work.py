"""What models did for one request: told by the engine, read by logs and traces."""

from dataclasses import dataclass, field

from service.batching.pending import Timing


@dataclass(frozen=True, slots=True)
class Call:
    """One asking of a model.

    texts, tokens: what it was to read. started_s: when, on the clock of `time.perf_counter`.
    tokenize_s: how long the inputs took to prepare. timing: what came then.
    """

    texts: int
    tokens: int
    started_s: float
    tokenize_s: float
    timing: Timing


@dataclass(slots=True)
class Work:
    """What models did for one request, and what else was read for it.

    span: of the request, where it is traced; opaque here. texts, tokens: of streams, whose calls
    are without end and are not kept.
    """

    span: object | None = None
    calls: list[Call] = field(default_factory=list)
    texts: int = 0
    tokens: int = 0

    def note(
        self, texts: int, tokens: int, started_s: float, tokenize_s: float, timing: Timing
    ) -> None:
        """A model is asked now; `timing` is told the rest."""
        timing.span = self.span
        self.calls.append(Call(texts, tokens, started_s, tokenize_s, timing))

    def totals(self) -> tuple[int, int]:
        """Texts and tokens of all calls."""
        return (
            self.texts + sum(call.texts for call in self.calls),
            self.tokens + sum(call.tokens for call in self.calls),
        )

    def stages_s(self) -> dict[str, float]:
        """Seconds by stage; waiting and running are the mean of a call's texts. Empty if none."""
        if not self.calls:
            return {}
        return {
            "tokenize": sum(call.tokenize_s for call in self.calls),
            "queue": sum(call.timing.queue_s for call in self.calls),
            "infer": sum(call.timing.infer_s for call in self.calls),
        }

    @property
    def done_at_s(self) -> float:
        """When the last rows were there; 0 if there are none."""
        return max((call.timing.done_at_s for call in self.calls), default=0.0)
