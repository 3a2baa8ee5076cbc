"""Every Prometheus series, named here and nowhere else, on a registry that is passed in."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

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
            ["endpoint", "model", "version", "outcome"],
            registry=registry,
        )
        self.request_duration = Histogram(
            "encserve_request_duration_seconds",
            "Time from the first byte handled to the last byte of the answer.",
            ["endpoint", "model", "version"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "encserve_stage_duration_seconds",
            "Time by stage: tokenize (one request), queue (one text), infer (one batch).",
            ["model", "version", "stage"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.texts = Counter(
            "encserve_texts",
            "Texts accepted, by where the answer comes from: computed, in_flight (another caller "
            "waits for the same), cached.",
            ["model", "version", "source"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "encserve_cache_bytes", "Size of the cache of answers.", registry=registry
        )
        self.queue_texts = Gauge(
            "encserve_queue_texts",
            "Texts waiting for a batch.",
            ["model", "version"],
            registry=registry,
        )
        self.queue_tokens = Gauge(
            "encserve_queue_tokens",
            "Tokens waiting for a batch.",
            ["model", "version"],
            registry=registry,
        )
        self.batch_texts = Histogram(
            "encserve_batch_texts",
            "Texts in one model run.",
            ["model", "version"],
            buckets=BATCH_TEXTS_BUCKETS,
            registry=registry,
        )
        self.batch_tokens = Histogram(
            "encserve_batch_tokens",
            "Tokens in one model run.",
            ["model", "version"],
            buckets=BATCH_TOKENS_BUCKETS,
            registry=registry,
        )
        self.rejected_requests = Counter(
            "encserve_rejected_requests",
            "Requests refused for want of capacity or time, by the error's code.",
            ["model", "version", "reason"],
            registry=registry,
        )
        self.truncated_texts = Counter(
            "encserve_truncated_texts",
            "Texts cut to the model's longest input.",
            ["model", "version"],
            registry=registry,
        )
        self.predictions = Counter(
            "encserve_predictions",
            "Texts classified, by the label that won.",
            ["model", "version", "label"],
            registry=registry,
        )
        self.feedback = Counter(
            "encserve_feedback",
            "Labels that callers have judged: right or wrong.",
            ["model", "version", "judged"],
            registry=registry,
        )
        self.feedback_confidence = Counter(
            "encserve_feedback_confidence",
            "The same by the label's probability, in tenths named by their upper end.",
            ["model", "version", "confidence", "right"],
            registry=registry,
        )
        self.drift = Gauge(
            "encserve_drift_psi",
            "Population stability index of the last texts against the model's own, by feature.",
            ["model", "version", "feature"],
            registry=registry,
        )
        shadow = ["model", "version"]
        self.shadow_texts = Counter(
            "encserve_shadow_texts",
            "Texts answered by a shadow version, too.",
            shadow,
            registry=registry,
        )
        self.shadow_disagreements = Counter(
            "encserve_shadow_disagreements",
            "Texts to which the shadow version gives another label.",
            shadow,
            registry=registry,
        )
        self.shadow_score_difference = Summary(
            "encserve_shadow_score_difference",
            "Mean difference of a text's scores between the shadow and what serves.",
            shadow,
            registry=registry,
        )
        self.shadow_cosine = Summary(
            "encserve_shadow_cosine",
            "Cosine of a text's vectors by the shadow and by what serves.",
            shadow,
            registry=registry,
        )
        self.shadow_skipped = Counter(
            "encserve_shadow_skipped_requests",
            "Requests that the shadow was not asked, as too many waited for it.",
            shadow,
            registry=registry,
        )
        self.shadow_failures = Counter(
            "encserve_shadow_failures",
            "Requests that the shadow could not answer, by the error's code.",
            [*shadow, "reason"],
            registry=registry,
        )
        self.canary_share = Gauge(
            "encserve_canary_share",
            "Share of a model's requests that another version gets.",
            ["model", "version"],
            registry=registry,
        )
        self.canary_taken_back = Counter(
            "encserve_canaries_taken_back",
            "Canaries that did worse than what serves, by what was worse.",
            ["model", "reason"],
            registry=registry,
        )
        self.model_loads = Counter(
            "encserve_model_loads",
            "Versions that were to be loaded while serving, by outcome (ok, or the error's code).",
            ["model", "outcome"],
            registry=registry,
        )
        self.model_info = Gauge(
            "encserve_model_info",
            "Always 1; its labels say which model version serves.",
            ["model", "version", "task", "variant"],
            registry=registry,
        )

    def forget(self, model: str, version: str) -> None:
        """Remove the series of a version that is served no more, so that they stay bounded."""
        labels = {"model": model, "version": version}
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase) and labels.keys() <= set(metric._labelnames):
                metric.remove_by_labels(labels)

    def of_model(self, model: str, version: str) -> "ModelMetrics":
        """The series of one model version."""
        return ModelMetrics(self, model, version)


class ModelMetrics:
    """The series of one model version, bound once: looking labels up costs more than counting."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._metrics = metrics
        self._labels = (model, version)
        self.queue_texts = metrics.queue_texts.labels(model, version)
        self.queue_tokens = metrics.queue_tokens.labels(model, version)
        self.batch_texts = metrics.batch_texts.labels(model, version)
        self.batch_tokens = metrics.batch_tokens.labels(model, version)
        self.truncated_texts = metrics.truncated_texts.labels(model, version)
        self.tokenize_duration = metrics.stage_duration.labels(model, version, "tokenize")
        self.queue_duration = metrics.stage_duration.labels(model, version, "queue")
        self.infer_duration = metrics.stage_duration.labels(model, version, "infer")
        self.texts_computed = metrics.texts.labels(model, version, "computed")
        self.texts_in_flight = metrics.texts.labels(model, version, "in_flight")
        self.texts_cached = metrics.texts.labels(model, version, "cached")

    def declare(self, task: str, variant: str, labels: Sequence[str]) -> None:
        """Start the model's series at zero: a counter that appears late hides its first rise."""
        model, version = self._labels
        self._metrics.model_info.labels(model, version, task, variant).set(1)
        for reason in REJECTIONS:
            self._metrics.rejected_requests.labels(model, version, reason)
        for label in labels:
            self._metrics.predictions.labels(model, version, label)

    def drift(self, feature: str) -> Gauge:
        """The gauge of one feature."""
        return self._metrics.drift.labels(*self._labels, feature)

    def rejected(self, reason: str) -> None:
        """A request was refused with the error code `reason`, one of `REJECTIONS`."""
        self._metrics.rejected_requests.labels(*self._labels, reason).inc()

    def predicted(self, label: str) -> None:
        """`label` won for one text."""
        self._metrics.predictions.labels(*self._labels, label).inc()
