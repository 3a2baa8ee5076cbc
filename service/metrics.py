"""Every Prometheus series, named here and nowhere else, on a registry that is passed in."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From one short text (about 3 ms) to a full queue (seconds).
DURATION_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075,
    0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# Codes of the errors that refuse a request which another moment would have taken.
REJECTIONS = ("overloaded", "shutting_down", "deadline_exceeded")
BATCH_TEXTS_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
BATCH_TOKENS_BUCKETS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)


class Metrics:
    """The service's series. Labels come from closed sets: routes, loaded models, error codes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "encserve_requests",
            "Requests answered, by route, model and outcome (ok, or the error's code).",
            ["endpoint", "model", "outcome"],
            registry=registry,
        )
        self.request_duration = Histogram(
            "encserve_request_duration_seconds",
            "Time from the first byte handled to the last byte of the answer.",
            ["endpoint", "model"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "encserve_stage_duration_seconds",
            "Time by stage: tokenize (one request), queue (one text), infer (one batch).",
            ["model", "stage"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.texts = Counter(
            "encserve_texts",
            "Texts accepted, by where the answer comes from: computed, in_flight (another caller "
            "waits for the same), cached.",
            ["model", "source"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "encserve_cache_bytes", "Size of the cache of answers.", registry=registry
        )
        self.queue_texts = Gauge(
            "encserve_queue_texts", "Texts waiting for a batch.", ["model"], registry=registry
        )
        self.queue_tokens = Gauge(
            "encserve_queue_tokens", "Tokens waiting for a batch.", ["model"], registry=registry
        )
        self.batch_texts = Histogram(
            "encserve_batch_texts",
            "Texts in one model run.",
            ["model"],
            buckets=BATCH_TEXTS_BUCKETS,
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "encserve_batch_tokens",
            "Tokens in one model run.",
            ["model"],
            buckets=BATCH_TOKENS_BUCKETS,
            registry=registry,
        )
        self.rejected_requests = Counter(
            "encserve_rejected_requests",
            "Requests refused for want of capacity or time, by the error's code.",
            ["model", "reason"],
            registry=registry,
        )
        self.truncated_texts = Counter(
            "encserve_truncated_texts",
            "Texts cut to the model's longest input.",
            ["model"],
            registry=registry,
        )
        self.predictions = Counter(
            "encserve_predictions",
            "Texts classified, by the label that won.",
            ["model", "label"],
            registry=registry,
        )
        self.model_info = Gauge(
            "encserve_model_info",
            "Always 1; its labels say which model version serves.",
            ["model", "version", "task", "variant"],
            registry=registry,
        )

    def declare_model(
        self, model: str, version: str, task: str, variant: str, labels: Sequence[str]
    ) -> None:
        """Start the model's series at zero: a counter that appears late hides its first rise."""
        self.model_info.labels(model, version, task, variant).set(1)
        self.truncated_texts.labels(model)
        for source in ("computed", "in_flight", "cached"):
            self.texts.labels(model, source)
        for reason in REJECTIONS:
            self.rejected_requests.labels(model, reason)
        for label in labels:
            self.predictions.labels(model, label)

    @contextmanager
    def stage(self, model: str, stage: str) -> Iterator[None]:
        """Time the block as one observation of `stage`, whether it succeeds or raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_duration.labels(model, stage).observe(time.perf_counter() - started)
