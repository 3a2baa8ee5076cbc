"""From panels to the JSON that Grafana takes.

python -m monitoring.grafana        writes docker/grafana/dashboards/
"""

import json
from pathlib import Path
from typing import Any

from monitoring.boards import BOARDS
from monitoring.panels import Board, Panel, Query

FOLDER = Path(__file__).parents[1] / "docker" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8}
# Of Grafana's own units; anything else is written behind the number.
UNITS = {"texts/s": "suffix: texts/s", "tokens/s": "suffix: tokens/s"}


def dashboard(board: Board) -> dict[str, Any]:
    """The dashboard, as Grafana exports it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.meaning,
        "tags": ["encserve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "timepicker": {},
        "links": [_link_to_the_others()],
        "annotations": {"list": []},
        "templating": {"list": [_data_source(), *map(_choice, ("instance", "model"))]},
        "panels": _placed(board),
    }


def text_of(board: Board) -> str:
    """The file's content."""
    return json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"


def _placed(board: Board) -> list[dict[str, Any]]:
    """Rows below each other, their panels side by side as far as the columns reach."""
    placed: list[dict[str, Any]] = []
    top = 0
    for row in board.rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append(heading | _place(len(placed), 0, top, COLUMNS, 1))
        top, left = top + 1, 0
        for panel in row.panels:
            height = HEIGHTS[panel.kind]
            if left + panel.width > COLUMNS:
                top, left = top + height, 0
            placed.append(_panel(panel) | _place(len(placed), left, top, panel.width, height))
            left += panel.width
        top += HEIGHTS[row.panels[-1].kind]
    return placed


def _place(number: int, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    looks = {"timeseries": _lines, "stat": _number, "table": _table}[panel.kind](panel)
    targets = [_target(panel, at, query) for at, query in enumerate(panel.queries)]
    head = {"type": panel.kind, "title": panel.title, "description": panel.meaning}
    return head | {"datasource": SOURCE, "targets": targets} | looks


def _target(panel: Panel, at: int, query: Query) -> dict[str, Any]:
    how = {"format": "table", "instant": True} if panel.kind == "table" else {"range": True}
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "refId": chr(ord("A") + at),
    } | how


def _lines(panel: Panel) -> dict[str, Any]:
    ends = {"min": 0} | ({"max": panel.most} if panel.most is not None else {})
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
    }
    defaults = {"unit": _unit(panel), **ends, "color": {"mode": "palette-classic"}}
    legend = {
        "calcs": ["lastNotNull", "max"],
        "displayMode": "table",
        "placement": "bottom",
        "showLegend": True,
    }
    return {
        "fieldConfig": {"defaults": defaults | {"custom": custom}, "overrides": []},
        "options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
    }


def _number(panel: Panel) -> dict[str, Any]:
    green = {"mode": "absolute", "steps": [{"color": "green", "value": None}]}
    defaults = {"unit": _unit(panel), "color": {"mode": "thresholds"}, "thresholds": green}
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": last,
            "textMode": "value",
        },
    }


def _table(panel: Panel) -> dict[str, Any]:
    hidden = dict.fromkeys(("Time", "Value", "__name__", "job"), True)
    organize = {"excludeByName": hidden, "indexByName": {}, "renameByName": {}}
    return {
        "fieldConfig": {"defaults": {"custom": {"align": "auto"}}, "overrides": []},
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [{"id": "organize", "options": organize}],
    }


def _unit(panel: Panel) -> str:
    return UNITS.get(panel.unit, panel.unit)


def _link_to_the_others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "encserve",
        "tags": ["encserve"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _data_source() -> dict[str, Any]:
    current = {"selected": True, "text": "Prometheus", "value": "prometheus"}
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": current,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _choice(label: str) -> dict[str, Any]:
    """A variable that chooses some values of a label; all of them at first."""
    query = f"label_values(encserve_model_info, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
        "skipUrlSync": False,
    }


def main() -> None:
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(text_of(board), encoding="utf-8")


if __name__ == "__main__":
    main()
