"""What a real Prometheus has for each panel of the dashboards."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.prometheus import Prometheus, Series

# A series with its labels, or what a rule has recorded.
_SELECTOR = re.compile(r"\b(?:encserve[:_]|process_|ALERTS)[\w:]*(?:\{[^}]*\})?")
MOST_POINTS = 240


@dataclass(frozen=True)
class Window:
    """When a dashboard looks, in seconds since 1970, at scrapes every `scrape_s`.

    rate_s: what rates are taken over; None as Grafana has it.
    """

    start_s: float
    end_s: float
    scrape_s: float
    rate_s: float | None = None

    @property
    def step_s(self) -> float:
        return max(self.scrape_s, (self.end_s - self.start_s) / MOST_POINTS)

    def put_into(self, query: str) -> str:
        """The query with what Grafana puts in the place of its variables, all values chosen."""
        # As Grafana has it: four scrapes, or a step and a scrape.
        rate_s = self.rate_s or max(4 * self.scrape_s, self.step_s + self.scrape_s)
        query = query.replace("$__rate_interval", f"{round(1000 * rate_s)}ms")
        query = query.replace('"$instance"', '".*"').replace('"$model"', '".*"')
        if "$" in query:
            raise ValueError(f"a variable that is not known: {query}")
        return query


@dataclass(frozen=True)
class Seen:
    """What one query of one panel has found; `without_data`: selectors in it that find nothing."""

    board: str
    panel: str
    unit: str
    kind: str
    query: str
    legend: str
    series: tuple[Series, ...]
    without_data: tuple[str, ...]

    @property
    def values(self) -> list[float]:
        """All numbers; a rate of nothing by nothing is none."""
        points = [value for series in self.series for _, value in series.points]
        return [value for value in points if math.isfinite(value)]

    @property
    def empty(self) -> bool:
        return not self.values or bool(self.without_data)


def panels_of(file: Path) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard's file that ask for something."""
    return (panel for panel in json.loads(file.read_text())["panels"] if panel.get("targets"))


def look(prometheus: Prometheus, file: Path, window: Window) -> Iterator[Seen]:
    """Ask every query of every panel of a dashboard's file, as Grafana would.

    Raises:
        ValueError: Prometheus does not understand one.
    """
    title = json.loads(file.read_text())["title"].partition(": ")[2]
    for panel in panels_of(file):
        for target in panel["targets"]:
            query = window.put_into(target["expr"])
            yield Seen(
                title,
                panel["title"],
                panel["fieldConfig"]["defaults"].get("unit", "short"),
                panel["type"],
                query,
                target["legendFormat"],
                tuple(prometheus.over(query, window.start_s, window.end_s, window.step_s)),
                tuple(_without_data(prometheus, query, window)),
            )


def selectors(query: str) -> list[str]:
    """The series that a query asks for, with their labels."""
    return _SELECTOR.findall(query)


def _without_data(prometheus: Prometheus, query: str, window: Window) -> Iterator[str]:
    """A sum can hide that a part of it is never there."""
    for selector in selectors(query):
        if not prometheus.over(selector, window.start_s, window.end_s, window.step_s):
            yield selector
