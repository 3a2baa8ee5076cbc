"""What a dashboard is made of, before it becomes Grafana's JSON."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "table"]
Unit = Literal["reqps", "percentunit", "s", "short", "bytes", "texts/s", "tokens/s"]

# What the variables of every dashboard choose.
INSTANCE = 'instance=~"$instance"'
MODEL = f'{INSTANCE}, model=~"$model"'
# Probes and scrapes are no traffic.
ASKED = 'endpoint!~"/livez|/readyz|/metrics"'


@dataclass(frozen=True)
class Query:
    """PromQL and how its series are called: Grafana puts labels into `{{…}}`."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Panel:
    """width: of 24 columns. stacked: the series add up to something. most: end of the axis."""

    title: str
    meaning: str
    unit: Unit
    queries: tuple[Query, ...]
    width: int = 8
    kind: Kind = "timeseries"
    stacked: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; `uid` is also the name of its file."""

    uid: str
    title: str
    meaning: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def rate(series: str, labels: str, by: str = "") -> str:
    """A counter's growth in a second, summed over all labels but `by`."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({series}{{{labels}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram, for each value of the labels `by`."""
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, kept)})"


def mean(histogram: str, labels: str, by: str = "") -> str:
    """Mean of what a histogram or a summary has observed."""
    return f"{rate(f'{histogram}_sum', labels, by)} / {rate(f'{histogram}_count', labels, by)}"


def share(series: str, part: str, whole: str, by: str = "") -> str:
    """What of a counter's growth has the labels `part`, of that which has the labels `whole`."""
    return f"{rate(series, part, by)} / {rate(series, whole, by)}"
