"""Draws what Prometheus has for each panel, laid out as in Grafana; no screenshot of it."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from monitoring.seen import Seen, panels_of

COLUMNS = 24
INCHES_A_COLUMN = 0.72
INCHES_A_LINE = 0.3
# Around the axes of a panel, in columns and lines; below it stands its legend.
LEFT, RIGHT, ABOVE, BELOW = 0.85, 0.25, 0.9, 2.3
MOST_IN_LEGEND = 8
GREY, DARK, GREEN = "#8a8f98", "#2c3235", "#37872d"


def draw(file: Path, seen: Sequence[Seen], into: Path) -> None:
    """One dashboard, `seen` as `look` found it in `file`; a PNG."""
    panels = list(panels_of(file))
    lines = 1 + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    size = (INCHES_A_COLUMN * COLUMNS, INCHES_A_LINE * lines)
    figure = Figure(figsize=size, dpi=90)
    FigureCanvasAgg(figure)
    top = 1 - 0.8 / lines
    figure.text(0.01, top, f"encserve: {seen[0].board}", fontsize=14, color=DARK, weight="bold")
    for panel in panels:
        place = panel["gridPos"]
        below = BELOW if panel["type"] == "timeseries" else 0.5
        left = (place["x"] + LEFT) / COLUMNS
        bottom = 1 - (1 + place["y"] + place["h"] - below) / lines
        width = (place["w"] - LEFT - RIGHT) / COLUMNS
        height = (place["h"] - ABOVE - below) / lines
        axes = figure.add_axes((left, bottom, width, height))
        _panel(axes, panel, [one for one in seen if one.panel == panel["title"]])
    figure.savefig(into)


def _panel(axes: Any, panel: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    axes.set_title(panel["title"], loc="left", fontsize=9, color=DARK, weight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=7, colors=GREY)
    draw_kind = {"stat": _number, "table": _table, "timeseries": _lines}[panel["type"]]
    draw_kind(axes, panel, seen)


def _number(axes: Any, panel: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    axes.axis("off")
    value = seen[0].series[0].points[-1][1] if seen[0].series else math.nan
    text = _written(value, seen[0].unit)
    axes.text(0.0, 0.3, text, fontsize=18, color=GREEN, transform=axes.transAxes)


def _table(axes: Any, panel: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    axes.axis("off")
    names = ("model", "version", "task", "variant")
    rows = [[series.labels.get(name, "") for name in names] for series in seen[0].series]
    table = axes.table(cellText=rows, colLabels=names, loc="upper left", cellLoc="left", edges="B")
    table.auto_set_font_size(False)
    table.set_fontsize(8)


def _lines(axes: Any, panel: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    named = [
        (_name(one.legend, series.labels), series.points) for one in seen for series in one.series
    ]
    if defaults["custom"]["stacking"]["mode"] == "normal" and named:
        moments = sorted({at_s for _, points in named for at_s, _ in points})
        layers = [[_finite(dict(points).get(at_s, 0.0)) for at_s in moments] for _, points in named]
        axes.stackplot(moments, layers, labels=[name for name, _ in named], alpha=0.7)
    else:
        for name, points in named:
            axes.plot([at_s for at_s, _ in points], [value for _, value in points],
                      linewidth=1.1, label=name)  # fmt: skip
    axes.set_ylim(bottom=0, top=defaults.get("max"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _written(value, seen[0].unit)))
    axes.grid(axis="y", linewidth=0.4, color="#e4e7eb")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda at_s, _: datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S"))
    )
    axes.xaxis.set_major_locator(MaxNLocator(4))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:MOST_IN_LEGEND], labels[:MOST_IN_LEGEND], loc="upper left", fontsize=6.5,
        bbox_to_anchor=(-0.02, -0.13), ncols=3 if panel["gridPos"]["w"] > 6 else 2, frameon=False,
        handlelength=1.0, columnspacing=0.9, labelspacing=0.2, labelcolor=DARK,
    )  # fmt: skip


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _written(value: float, unit: str) -> str:
    """A number as a person would write it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or not value else f"{1000 * value:.3g} ms"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
