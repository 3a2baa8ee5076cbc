"""The series of one model version."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from service.metrics import Metrics

# Codes of the errors that refuse a request which another moment would have taken.
REJECTIONS = ("overloaded", "shutting_down", "deadline_exceeded")


class Summed:
    """A gauge that is looked up when it is scraped, of all the parts that share it.

    Counting up and down with every text costs its request more, and holds up who waits for a lock.
    """

    def __init__(self, gauge: Gauge) -> None:
        self._parts: list[Callable[[], float]] = []
        gauge.set_function(lambda: sum(part() for part in self._parts))

    def add(self, part: Callable[[], float]) -> None:
        """Called from any thread, at any time."""
        self._parts.append(part)


class ModelMetrics:
    """The series of one model version, bound once: looking labels up costs more than counting."""

    def __init__(self, metrics: "Metrics", model: str, version: str) -> None:
        self._metrics = metrics
        self._labels = (model, version)
        self._predictions: dict[str, Counter] = {}
        self._confidence: Histogram | None = None
        self.queue_texts = Summed(metrics.queue_texts.labels(model, version))
        self.queue_bytes = Summed(metrics.queue_bytes.labels(model, version))
        self.queue_tokens = Summed(metrics.queue_tokens.labels(model, version))
        self.queue_wait = Summed(metrics.queue_wait.labels(model, version))
        self.batch_texts = metrics.batch_texts.labels(model, version)
        self.batch_tokens = metrics.batch_tokens.labels(model, version)
        self.tokens_of_texts = metrics.tokens.labels(model, version, "text")
        self.tokens_of_padding = metrics.tokens.labels(model, version, "padding")
        self.truncated_texts = metrics.truncated_texts.labels(model, version)
        self.tokenize_duration = metrics.stage_duration.labels(model, version, "tokenize")
        self.queue_duration = metrics.stage_duration.labels(model, version, "queue")
        self.pack_duration = metrics.stage_duration.labels(model, version, "pack")
        self.infer_duration = metrics.stage_duration.labels(model, version, "infer")
        self.post_process_duration = metrics.stage_duration.labels(model, version, "post_process")
        self.texts_computed = metrics.texts.labels(model, version, "computed")
        self.texts_in_flight = metrics.texts.labels(model, version, "in_flight")
        self.texts_cached = metrics.texts.labels(model, version, "cached")
        self._rejections = {
            reason: metrics.rejected_requests.labels(model, version, reason)
            for reason in REJECTIONS
        }

    def declare(self, task: str, variant: str, labels: Sequence[str]) -> None:
        """Start the model's series at zero: a counter that appears late hides its first rise."""
        model, version = self._labels
        self._metrics.model_info.labels(model, version, task, variant).set(1)
        self._metrics.model_load_failed.labels(model)
        self._metrics.model_swaps.labels(model)
        self._metrics.request.declare(model, version)
        if labels:
            self._confidence = self._metrics.confidence.labels(model, version)
        for label in labels:
            self._predictions[label] = self._metrics.predictions.labels(model, version, label)

    def drift(self, feature: str) -> Gauge:
        """The gauge of one feature."""
        return self._metrics.drift.labels(*self._labels, feature)

    def rejected(self, reason: str) -> None:
        """A request was refused with the error code `reason`, one of `REJECTIONS`."""
        self._rejections[reason].inc()

    def ran(self, lengths: Sequence[int]) -> None:
        """A batch of texts of so many tokens each is run."""
        tokens = sum(lengths)
        self.batch_texts.observe(len(lengths))
        self.batch_tokens.observe(tokens)
        self.tokens_of_texts.inc(tokens)
        self.tokens_of_padding.inc(len(lengths) * max(lengths) - tokens)

    @property
    def traces_batches(self) -> bool:
        """`trace_batch` is of use."""
        return self._metrics.on_batch is not None

    def trace_batch(
        self,
        lengths: Sequence[int],
        failed: int,
        started_s: float,
        ended_s: float,
        spans: Sequence[object],
    ) -> object | None:
        """A batch was run for the requests of `spans`; its own span, which they may name."""
        tell = self._metrics.on_batch
        return tell and tell(*self._labels, lengths, failed, started_s, ended_s, spans)

    def written(self, computed_at_s: float) -> None:
        """An answer is in bytes whose rows were there at that moment of `time.perf_counter`."""
        self.post_process_duration.observe(time.perf_counter() - computed_at_s)

    def predicted(self, label: str, probability: float | None) -> None:
        """`label` won for one text; logits are no probabilities."""
        self._predictions[label].inc()
        if probability is not None and self._confidence is not None:
            self._confidence.observe(probability)
