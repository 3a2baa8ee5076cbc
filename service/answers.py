"""What a model has made of some inputs: a row or an error each, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.batching.pending import Timing
from service.errors import EncserveError
from service.preparing import Prepared
from service.runtime.outputs import FloatArray
from service.work import Work


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order of the inputs, [n, width] float32, and what each input cost.

    tokens: [n], those that the model read, special tokens included. full_tokens: [n], those that
    the whole input has. errors: by index, of inputs whose row is worth nothing; only where the
    caller asked for a partial answer. tokenize_s, queue_s, infer_s: where the time went.
    computed_at_s: when the model's rows were there, on the clock of `time.perf_counter`.
    """

    rows: FloatArray
    tokens: list[int]
    full_tokens: list[int]
    truncated: list[bool]
    errors: dict[int, EncserveError] = field(default_factory=dict)
    tokenize_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    computed_at_s: float = 0.0


@dataclass(slots=True)
class Computed:
    """What was prepared, and a row or an error for each of its spans, in order."""

    prepared: Prepared
    tokenize_s: float
    rows: Sequence[FloatArray | EncserveError] = ()
    timing: Timing = field(default_factory=Timing)
    computed_at_s: float = 0.0

    @property
    def owners(self) -> list[int]:
        """Which input each span is of."""
        spans = self.prepared.spans
        return [index for index, of_one in enumerate(spans) for _ in of_one]

    def tell(self, work: Work | None, started_s: float) -> None:
        """Note what was prepared; its timing is told the rest later."""
        if work is None:
            return
        tokens = sum(len(span) for spans in self.prepared.spans for span in spans)
        texts = len(self.prepared.spans)
        work.note(texts, tokens, started_s, self.tokenize_s, self.timing)

    def answer(self, rows: FloatArray) -> Answer:
        """`rows`, [n, width], and what the inputs cost."""
        prepared = self.prepared
        failed = {
            owner: row
            for owner, row in zip(self.owners, self.rows, strict=True)
            if isinstance(row, EncserveError)
        }
        truncated = [
            len(spans) == 1 and len(spans[0]) < full
            for spans, full in zip(prepared.spans, prepared.full_tokens, strict=True)
        ]
        return Answer(
            rows,
            [sum(map(len, spans)) for spans in prepared.spans],
            prepared.full_tokens,
            truncated,
            prepared.errors | failed,
            self.tokenize_s,
            self.timing.queue_s,
            self.timing.infer_s,
            self.computed_at_s,
        )
