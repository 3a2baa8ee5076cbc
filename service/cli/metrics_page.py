"""`encserve metrics`: the page that says what each series of /metrics means."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.cli.common import app, examples
from service.metrics import LABELS, Metrics

HEAD = """\
# Metrics

`GET /metrics` of a server, in Prometheus's text format, or in OpenMetrics if the scraper asks for
it. This page is written from `service/metrics.py` by `make metrics-page`; a test compares them.

Labels come from closed sets, whatever callers send. Counters of a model start at zero when it is
loaded; those of errors appear with the first. A version's series end when it is served no more.
Standard `process_*` and `python_info` series stand beside these. Dashboards and alerts made of
them: [deploy.md](deploy.md#prometheus-and-grafana), [runbooks.md](runbooks.md).

| series | type | labels | meaning |
|---|---|---|---|
"""


@app.command(
    "metrics",
    epilog=examples(
        "encserve metrics > metrics.md",
    ),
)
def show_metrics() -> None:
    """Print what each series of /metrics means, as Markdown."""
    print(metrics_page(), end="")


def metrics_page() -> str:
    """docs/metrics.md."""
    found = [one for one in vars(Metrics(CollectorRegistry())).values() if _is_series(one)]
    return (
        HEAD
        + _rows((f"`{_name(one)}`", one._type, _labels(one), one._documentation) for one in found)
        + "\n## Labels\n\n| label | values |\n|---|---|\n"
        + _rows((f"`{name}`", meaning) for name, meaning in LABELS.items())
        + "\n## Buckets\n\n| histogram | upper ends |\n|---|---|\n"
        + _rows((f"`{_name(one)}`", _buckets(one)) for one in found if one._type == "histogram")
        + "\nBuckets are called `…_bucket`; a histogram also has a `…_sum` and a `…_count`.\n"
    )


def _is_series(value: object) -> bool:
    return isinstance(value, MetricWrapperBase)


def _name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def _labels(metric: MetricWrapperBase) -> str:
    return ", ".join(metric._labelnames)


def _buckets(metric: MetricWrapperBase) -> str:
    return " ".join(f"{bound:g}" for bound in metric._kwargs["buckets"])


def _rows(cells: Iterable[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)
