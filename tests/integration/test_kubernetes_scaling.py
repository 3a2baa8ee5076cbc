"""What the cluster watches and scales by is what the server has."""

import re

from prometheus_client import CollectorRegistry

from deploy import prometheus_rule
from service.metrics import Metrics
from tests.integration.conftest import LiveServer
from tests.integration.manifests import (
    KUBERNETES,
    Manifest,
    build,
    of_kind,
    read,
)


def test_metrics_are_where_the_monitor_looks(server: LiveServer) -> None:
    monitor = read(KUBERNETES / "components" / "monitoring" / "service-monitor.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert "encserve_workers " in server.client.get(endpoint["path"]).text


def test_prometheus_rule_is_the_alert_files() -> None:
    assert prometheus_rule.TARGET.read_text() == prometheus_rule.manifest(), (
        "run `make kubernetes-rules`"
    )


def test_scaling_asks_for_series_that_exist() -> None:
    names = {
        f"{family._name}{end}"
        for family in vars(Metrics(CollectorRegistry())).values()
        if hasattr(family, "_name")
        for end in ("", "_total", "_bucket", "_sum", "_count")
    }
    adapter = read(KUBERNETES / "prometheus-adapter.yaml")["rules"]
    made = {rule["name"]["as"] for kind in ("external", "custom") for rule in adapter[kind]}
    asked = set(re.findall(r"\bencserve_\w+", str(adapter) + str(_triggers())))
    assert asked - names == made
    wanted = of_kind(build(KUBERNETES / "base"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {
        metric.get("external", metric.get("pods"))["metric"]["name"] for metric in wanted
    } == made


def test_both_autoscalers_have_the_same_targets() -> None:
    wanted = of_kind(build(KUBERNETES / "base"), "HorizontalPodAutoscaler")["spec"]
    wait, busy = wanted["metrics"]
    assert wait["external"]["target"]["value"] == "100m"
    assert busy["pods"]["target"]["averageValue"] == "700m"
    assert [trigger["metadata"]["threshold"] for trigger in _triggers()] == ["0.1", "0.7"]
    scaled = read(KUBERNETES / "components" / "keda" / "scaled-object.yaml")["spec"]
    advanced = scaled["advanced"]["horizontalPodAutoscalerConfig"]
    assert advanced["behavior"] == wanted["behavior"]


def test_keda_that_is_asked_for_falls_back_for_values() -> None:
    scaled = of_kind(build(KUBERNETES / "overlays" / "cpu-large"), "ScaledObject")["spec"]
    # Metrics of this type have a fallback since 2.18, its behavior is known since 2.17.
    assert {trigger["metricType"] for trigger in scaled["triggers"]} == {"Value"}
    assert "behavior" in scaled["fallback"]
    for page in ("README.md", "components/keda/kustomization.yaml"):
        assert "KEDA 2.18 or later" in (KUBERNETES / page).read_text()


def _triggers() -> list[Manifest]:
    triggers: list[Manifest] = read(KUBERNETES / "components" / "keda" / "scaled-object.yaml")[
        "spec"
    ]["triggers"]
    return triggers
