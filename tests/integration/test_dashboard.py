"""The Grafana dashboard asks for series that the server really has."""

import json
import re
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import Process

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards" / "encserve.json"
SERIES = re.compile(r"\b(?:encserve|process|python)_[a-z_]+\b")


def test_every_series_of_the_dashboard_exists_on_the_metrics_page(process: Process) -> None:
    url = process.announced()[1]
    for path in ("embeddings", "sentiment"):
        httpx2.post(f"{url}/v1/{path}", json={"input": "good food"}).raise_for_status()
    page = httpx2.get(f"{url}/metrics").text
    families = list(text_string_to_metric_families(page))
    exist = {sample.name for family in families for sample in family.samples}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    asked = set(SERIES.findall(" ".join(queries)))
    assert len(asked) > 10
    assert asked - exist == set()
