"""What two scrapes of /metrics say of the time between them; nothing here asks or prints."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Key = tuple[tuple[str, str], ...]
GroupT = TypeVar("GroupT")


@dataclass(frozen=True)
class Scrape:
    """The samples of a page by name and labels, and when it was fetched, on a monotonic clock."""

    at_s: float
    samples: Mapping[str, Mapping[Key, float]]

    @classmethod
    def of(cls, page: str, at_s: float) -> "Scrape":
        """Parse the classic format.

        Raises:
            ValueError: it is none.
        """
        samples: dict[str, dict[Key, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
        return cls(at_s, samples)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples that have these labels."""
        return sum(
            value
            for key, value in self.samples.get(name, {}).items()
            if labels.items() <= dict(key).items()
        )


@dataclass(frozen=True)
class ModelRow:
    """One model version in the time between; None where nothing happened that could tell.

    texts_per_s: answered, also from the cache. p50_s, p99_s: of requests that were answered, within
    the width of a bucket. batch_texts, batch_tokens: mean of a run. padding: share of the places in
    padded blocks. cached: share of the texts that were not computed. rejected_per_s: for want of
    capacity or time.
    """

    model: str
    version: str
    variant: str
    texts_per_s: float
    tokens_per_s: float
    p50_s: float | None
    p99_s: float | None
    queue_texts: float
    queue_tokens: float
    batch_texts: float | None
    batch_tokens: float | None
    padding: float | None
    cached: float | None
    rejected_per_s: float


@dataclass(frozen=True)
class Frame:
    """A server in the time between two scrapes."""

    seconds: float
    requests_per_s: float
    failed_per_s: float
    workers: float
    workers_busy: float
    cache_bytes: float
    memory_bytes: float
    memory_limit_bytes: float
    lag_p99_s: float | None
    models: list[ModelRow]


def frame(before: Scrape, now: Scrape) -> Frame:
    """What happened from `before` to `now`, and how things stand now."""
    seconds = max(now.at_s - before.at_s, 1e-9)
    risen = _Risen(before, now)
    return Frame(
        seconds=seconds,
        requests_per_s=risen("encserve_requests_total") / seconds,
        failed_per_s=risen("encserve_slo_requests_total", fault="server") / seconds,
        workers=now.total("encserve_workers"),
        workers_busy=now.total("encserve_workers_busy"),
        cache_bytes=now.total("encserve_cache_bytes"),
        memory_bytes=now.total("process_resident_memory_bytes"),
        memory_limit_bytes=now.total("encserve_memory_limit_bytes"),
        lag_p99_s=quantile(0.99, risen.buckets("encserve_event_loop_lag_seconds_bucket")),
        models=sorted(
            (_row(dict(key), risen, now, seconds) for key in _served(now)),
            key=lambda row: (row.model, row.version),
        ),
    )


def _served(now: Scrape) -> list[Key]:
    return [key for key, value in now.samples.get("encserve_model_info", {}).items() if value]


def _row(info: Labels, risen: "_Risen", now: Scrape, seconds: float) -> ModelRow:
    model = {"model": info["model"], "version": info["version"]}
    texts = risen("encserve_texts_total", **model)
    computed = risen("encserve_texts_total", **model, source="computed")
    tokens = risen("encserve_tokens_total", **model, kind="text")
    padding = risen("encserve_tokens_total", **model, kind="padding")
    runs = risen("encserve_batch_texts_count", **model)
    durations = risen.buckets("encserve_request_duration_seconds_bucket", **model)
    return ModelRow(
        **model,
        variant=info.get("variant", ""),
        texts_per_s=texts / seconds,
        tokens_per_s=tokens / seconds,
        p50_s=quantile(0.5, durations),
        p99_s=quantile(0.99, durations),
        queue_texts=now.total("encserve_queue_texts", **model),
        queue_tokens=now.total("encserve_queue_tokens", **model),
        batch_texts=_share(risen("encserve_batch_texts_sum", **model), runs),
        batch_tokens=_share(risen("encserve_batch_tokens_sum", **model), runs),
        padding=_share(padding, tokens + padding),
        cached=_share(texts - computed, texts),
        rejected_per_s=risen("encserve_rejected_requests_total", **model) / seconds,
    )


class _Risen:
    """By how much counters have risen; one that fell has started anew, as its server has."""

    def __init__(self, before: Scrape, now: Scrape) -> None:
        self._before = before
        self._now = now

    def __call__(self, name: str, **labels: str) -> float:
        return sum(self._by(name, labels, lambda key: None).values())

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """Observations up to each bound, of all series that have these labels."""
        return self._by(name, labels, lambda key: float(dict(key)["le"]))

    def _by(self, name: str, labels: Labels, group: Callable[[Key], GroupT]) -> dict[GroupT, float]:
        risen: dict[GroupT, float] = defaultdict(float)
        before = self._before.samples.get(name, {})
        for key, value in self._now.samples.get(name, {}).items():
            if labels.items() <= dict(key).items():
                rise = value - before.get(key, 0.0)
                risen[group(key)] += rise if rise >= 0 else value
        return risen


def quantile(share: float, cumulative: Mapping[float, float]) -> float | None:
    """Where a share of the observations lies, evenly spread within a bucket; None if none.

    Args:
        cumulative: observations up to each upper bound, infinity among them.
    """
    bounds = sorted(cumulative)
    if not bounds or not cumulative[bounds[-1]]:
        return None
    wanted = share * cumulative[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        upto = cumulative[bound]
        if upto >= wanted and upto > below:
            # Beyond the last bound nothing is known but that.
            width = 0.0 if math.isinf(bound) else bound - lower
            return lower + width * (wanted - below) / (upto - below)
        lower, below = (lower if math.isinf(bound) else bound), upto
    return lower


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
