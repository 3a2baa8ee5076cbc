"""Does Prometheus say exactly what callers have seen?"""

from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.prometheus import Prometheus
from monitoring.traffic import Sent

# Whoever waits for the server, and Prometheus itself, ask these.
NOT_SENT = 'endpoint!~"/livez|/readyz|/metrics"'


@dataclass(frozen=True)
class Count:
    """A query, what callers saw, and what Prometheus has."""

    query: str
    sent: float
    found: float


def counts(prometheus: Prometheus, sent: Sent, shadow: str, scraped_s: float) -> Iterator[Count]:
    """Everything that callers can count; of a scrape that began after the last answer.

    shadow: the version that is asked beside the others, whose counts are no caller's.
    """
    for query, expected in _expected(sent, shadow):
        yield Count(query, expected, prometheus.value(query, scraped_s))


def _expected(sent: Sent, shadow: str) -> Iterator[tuple[str, float]]:
    # All together first: what nobody sent would show here.
    yield f"encserve_requests_total{{{NOT_SENT}}}", sum(sent.requests.values())
    for key, count in sorted(sent.keys.items()):
        yield f'encserve_key_requests_total{{key="{key}"}}', count
    yield "encserve_key_refusals_total", _of_outcome(sent, "rate_limit_exceeded")
    for (endpoint, outcome), count in sorted(sent.requests.items()):
        labels = f'endpoint="{endpoint}", outcome="{outcome}"'
        yield f"encserve_requests_total{{{labels}}}", count
    for (endpoint, model, version), count in sorted(sent.answered.items()):
        labels = f'endpoint="{endpoint}", model="{model}", version="{version}"'
        yield f'encserve_requests_total{{{labels}, outcome="ok"}}', count
        yield f"encserve_request_duration_seconds_count{{{labels}}}", count
    yield 'encserve_slo_requests_total{fault="none"}', sum(sent.answered.values())
    full = f'version!="{shadow}", reason="overloaded"'
    yield f"encserve_rejected_requests_total{{{full}}}", _of_outcome(sent, "overloaded")
    for (model, version), count in sorted(sent.texts.items()):
        yield f'encserve_texts_total{{model="{model}", version="{version}"}}', count
    for (model, version), count in sorted(sent.truncated.items()):
        yield f'encserve_truncated_texts_total{{model="{model}", version="{version}"}}', count
    callers = f'version!="{shadow}"'
    for label, count in sorted(sent.labels.items()):
        yield f'encserve_predictions_total{{{callers}, label="{label}"}}', count
    yield f"encserve_confidence_ratio_count{{{callers}}}", sum(sent.labels.values())
    for judged, count in sorted(sent.judged.items()):
        yield f'encserve_feedback_total{{judged="{judged}"}}', count


def _of_outcome(sent: Sent, outcome: str) -> int:
    return sum(count for (_, found), count in sent.requests.items() if found == outcome)
