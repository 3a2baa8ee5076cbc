"""Every Prometheus series, named here and nowhere else, on a registry that is passed in.

`encserve metrics` writes docs/metrics.md from it.
"""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary
from prometheus_client.metrics import MetricWrapperBase

from service.deferred_histogram import DeferredHistogram
from service.errors import ModelNotFound
from service.model_metrics import ModelMetrics
from service.request_metrics import RequestMetrics

__all__ = ["Metrics", "ModelMetrics"]

# From a hit in the cache (a quarter of a millisecond) to the longest that a request may take. Each
# bucket is a series for each set of labels: about two in every doubling are enough to tell where
# a quantile lies, and 0.25 s is what the objectives ask for.
DURATION_BUCKETS_S = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.004, 0.0075, 0.015, 0.03, 0.06, 0.125, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 15.0, 60.0),
)  # fmt: skip
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH_TEXTS_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
BATCH_TOKENS_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 4096)
CONFIDENCE_BUCKETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

# What each label may be: all are closed sets, so that no caller can make series without end.
LABELS = {
    "endpoint": "the route's path as it is declared; `other` for paths that are none, and for "
    "errors beyond the first 48 kinds, a kind being route, model and code",
    "model": "a loaded model; empty where a request failed before it found one; `other` for names "
    "that are not in the store",
    "version": "of that model; its series end when it is served no more",
    "outcome": "`ok`, or the code of the error",
    "fault": "`none`: answered; `caller`: refused for what it asked, or left; `server`: an error "
    "of ours, no capacity, or too late",
    "stage": "`read`: the body of a request; `tokenize`: its texts; `queue`: one text's wait for a "
    "batch; `pack`: a batch's tensors; `infer`: its run; `post_process`: from rows to the bytes of "
    "an answer; `write`: handing them to the connection. A bulk stream reads and writes as "
    "long as it lasts",
    "source": "`computed`; `in_flight`: another caller waits for the same text; `cached`",
    "kind": "`text`: tokens of texts; `padding`: places beside them in the block that is as long "
    "as the batch's longest text (models of the packed layout pad in attention alone)",
    "reason": "the code of the error; for a canary `failures` or `latency`; "
    "for a connection also `reader_too_slow`; for a key `rate` or `share`",
    "key": "the name of an API key",
    "label": "one of the model's labels",
    "judged": "`right` or `wrong`",
    "confidence": "tenths, named by their upper end",
    "right": "`true` or `false`",
    "feature": "what of a text or its answer is compared, see models.md",
    "task": "`embedding` or `classification`",
    "variant": "`fp32` or `int8`",
}
MODEL = ("model", "version")

# Told of a batch that was run for traced requests: model, version, tokens of each text, texts that
# failed, start and end on the clock of `time.perf_counter`, the requests' spans. Returns its own.
OnBatch = Callable[[str, str, Sequence[int], int, float, float, Sequence[object]], object]


class Metrics:
    """The service's series. Labels come from closed sets: routes, loaded models, error codes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.on_batch: OnBatch | None = None

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        def histogram(
            name: str, meaning: str, buckets: tuple[float, ...], *labels: str
        ) -> DeferredHistogram:
            return DeferredHistogram(name, meaning, labels, buckets=buckets, registry=registry)

        def summary(name: str, meaning: str, *labels: str) -> Summary:
            return Summary(name, meaning, labels, registry=registry)

        self.requests = counter(
            "encserve_requests",
            "Requests answered, of every route and outcome.",
            *("endpoint", *MODEL, "outcome"),
        )
        self.slo_requests = counter(
            "encserve_slo_requests",
            "Requests that found their model, or failed by a defect before: what objectives count.",
            *(*MODEL, "fault"),
        )
        self.request_duration = histogram(
            "encserve_request_duration_seconds",
            "Time of the requests that a model answered, from the first byte handled to the last "
            "byte of the answer.",
            DURATION_BUCKETS_S,
            *("endpoint", *MODEL),
        )
        self.stage_duration = histogram(
            "encserve_stage_duration_seconds",
            "Time by stage, of requests, texts or batches as the stage has it.",
            DURATION_BUCKETS_S,
            *(*MODEL, "stage"),
        )
        self.texts = counter(
            "encserve_texts",
            "Texts accepted, by where the answer comes from.",
            *(*MODEL, "source"),
        )
        self.truncated_texts = counter(
            "encserve_truncated_texts", "Texts cut to the model's longest input.", *MODEL
        )
        self.cache_bytes = gauge("encserve_cache_bytes", "Size of the cache of answers.")
        self.bodies_bytes = gauge(
            "encserve_bodies_bytes", "Request bodies that are held until they are answered."
        )
        self.queue_texts = gauge("encserve_queue_texts", "Texts waiting for a batch.", *MODEL)
        self.queue_tokens = gauge("encserve_queue_tokens", "Tokens waiting for a batch.", *MODEL)
        self.queue_wait = gauge(
            "encserve_queue_wait_seconds",
            "How long a new request that fits a batch would wait, by the tokens before it and the "
            "measured rate.",
            *MODEL,
        )
        self.queue_bytes = gauge(
            "encserve_queue_bytes", "Memory that callers hold until they are answered.", *MODEL
        )
        self.batch_texts = histogram(
            "encserve_batch_texts", "Texts in one model run.", BATCH_TEXTS_BUCKETS, *MODEL
        )
        self.batch_tokens = histogram(
            "encserve_batch_tokens", "Tokens in one model run.", BATCH_TOKENS_BUCKETS, *MODEL
        )
        self.tokens = counter(
            "encserve_tokens", "Tokens that were run, and padding beside them.", *(*MODEL, "kind")
        )
        self.workers = gauge("encserve_workers", "Model runs that may go side by side.")
        self.workers_busy = gauge("encserve_workers_busy", "Model runs under way.")
        self.workers_stuck = gauge(
            "encserve_workers_stuck", "Workers whose run takes longer than any run may."
        )
        self.rejected_requests = counter(
            "encserve_rejected_requests",
            "Requests refused for want of capacity or time.",
            *(*MODEL, "reason"),
        )
        self.predictions = counter(
            "encserve_predictions", "Texts classified, by the label that won.", *(*MODEL, "label")
        )
        self.confidence = histogram(
            "encserve_confidence_ratio",
            "Probability of the label that won.",
            CONFIDENCE_BUCKETS,
            *MODEL,
        )
        self.feedback = counter(
            "encserve_feedback",
            "Labels that callers have judged: right or wrong.",
            *(*MODEL, "judged"),
        )
        self.feedback_confidence = counter(
            "encserve_feedback_confidence",
            "The same by the label's probability.",
            *(*MODEL, "confidence", "right"),
        )
        self.drift = gauge(
            "encserve_drift_psi",
            "Population stability index of the last texts against the model's own, by feature.",
            *(*MODEL, "feature"),
        )
        self.shadow_texts = counter(
            "encserve_shadow_texts", "Texts answered by a shadow version, too.", *MODEL
        )
        self.shadow_disagreements = counter(
            "encserve_shadow_disagreements",
            "Texts to which the shadow version gives another label.",
            *MODEL,
        )
        self.shadow_score_difference = summary(
            "encserve_shadow_score_difference",
            "Mean difference of a text's scores between the shadow and what serves.",
            *MODEL,
        )
        self.shadow_cosine = summary(
            "encserve_shadow_cosine",
            "Cosine of a text's vectors by the shadow and by what serves.",
            *MODEL,
        )
        self.shadow_skipped = counter(
            "encserve_shadow_skipped_requests",
            "Requests that the shadow was not asked, as too many waited for it.",
            *MODEL,
        )
        self.shadow_failures = counter(
            "encserve_shadow_failures",
            "Requests that the shadow could not answer, by the error's code.",
            *(*MODEL, "reason"),
        )
        self.canary_share = gauge(
            "encserve_canary_share",
            "Share of a model's requests that another version gets.",
            *MODEL,
        )
        self.canary_taken_back = counter(
            "encserve_canaries_taken_back",
            "Canaries that did worse than what serves, by what was worse.",
            *("model", "reason"),
        )
        self.model_loads = counter(
            "encserve_model_loads",
            "Versions that were to be loaded while serving.",
            *("model", "outcome"),
        )
        self.model_load_failed = gauge(
            "encserve_model_load_failed",
            "1 from a load that failed to one that succeeds, else 0.",
            "model",
        )
        self.model_swaps = counter(
            "encserve_model_swaps", "Versions that took the place of another one.", "model"
        )
        self.model_info = gauge(
            "encserve_model_info",
            "Always 1; its labels say which model version serves.",
            *(*MODEL, "task", "variant"),
        )
        self.event_loop_lag = histogram(
            "encserve_event_loop_lag_seconds",
            "How late the event loop was to wake up when it was due, four times a second.",
            LAG_BUCKETS_S,
        )
        self.connections = gauge("encserve_connections", "Open connections of callers.")
        self.refused_connections = counter(
            "encserve_refused_connections",
            "Connections ended by the server for how they were used, by what was wrong.",
            "reason",
        )
        self.memory_limit = gauge(
            "encserve_memory_limit_bytes",
            "Memory that the process may use: its cgroup's limit, or all of the machine's.",
        )
        self.key_requests = counter(
            "encserve_key_requests", "Requests that came with an API key.", "key"
        )
        self.key_tokens = counter(
            "encserve_key_tokens", "Tokens that a key has spent: those of answers.", "key"
        )
        self.key_refusals = counter(
            "encserve_key_refusals",
            "Requests refused, as the key was over its rate or its share of the queue.",
            *("key", "reason"),
        )
        self.request = RequestMetrics(
            self.requests, self.slo_requests, self.request_duration, self.stage_duration
        )

    def watch_workers(self, size: int, busy: Callable[[], float]) -> None:
        """`busy` is asked at each scrape."""
        self.workers.set(size)
        self.workers_busy.set_function(busy)

    def load_ended(self, model: str, outcome: str) -> None:
        """A version was to be loaded while serving: `ok`, or the error's code."""
        self.model_loads.labels(model, outcome).inc()
        # Asked for what the store does not have: that is the mistake of whoever asked.
        if outcome != ModelNotFound.code:
            self.model_load_failed.labels(model).set(outcome != "ok")

    def forget(self, model: str, version: str) -> None:
        """Remove the series of a version that is served no more, so that they stay bounded."""
        labels = {"model": model, "version": version}
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase) and labels.keys() <= set(metric._labelnames):
                metric.remove_by_labels(labels)
        self.request.forget(model, version)

    def of_model(self, model: str, version: str) -> ModelMetrics:
        """The series of one model version."""
        return ModelMetrics(self, model, version)
