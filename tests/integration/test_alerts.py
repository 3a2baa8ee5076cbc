"""Every alert has a runbook, a case in which it fires, and one in which it is silent."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks.md"
SERIES = re.compile(r"\b(?:encserve|process)_[a-z_]+\b")


def rules() -> Iterator[dict[str, Any]]:
    for file in sorted((FOLDER / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str) -> None:
    command = shutil.which("promtool")
    assert command, "promtool is missing: apt-get install prometheus"
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_alerts_fire_and_are_silent_as_their_cases_say() -> None:
    promtool("test", "rules", *map(str, CASES))


@pytest.mark.parametrize("name", [alert["alert"] for alert in ALERTS])
def test_every_alert_has_a_case_of_each_kind(name: str) -> None:
    cases = [case for file in CASES for case in yaml.safe_load(file.read_text())["tests"]]
    looks = [look for case in cases for look in case["alert_rule_test"]]
    expected = [bool(look["exp_alerts"]) for look in looks if look["alertname"] == name]
    assert sorted(expected) == [False, True]


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_every_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    section = re.split(rf"^## {alert['alert']}$", RUNBOOKS.read_text(), flags=re.MULTILINE)[1]
    section = section.partition("\n## ")[0]
    assert all(f"**{part}.**" in section for part in ("Means", "See it", "Do"))
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert (ROOT / page, anchor) == (RUNBOOKS, alert["alert"].lower())


def test_runbooks_are_of_alerts_that_exist() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), flags=re.MULTILINE)
    assert sorted(sections) == sorted(alert["alert"] for alert in ALERTS)


def test_rules_ask_for_series_and_recorded_names_that_exist() -> None:
    metrics = vars(Metrics(CollectorRegistry())).values()
    families = {one._name for one in metrics if isinstance(one, MetricWrapperBase)}
    known = {
        f"{name}{end}" for name in families for end in ("", "_total", "_bucket", "_sum", "_count")
    }
    known.add("process_resident_memory_bytes")
    asked = {name for rule in rules() for name in SERIES.findall(rule["expr"])}
    assert asked - known == set()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {
        name for rule in rules() for name in re.findall(r"encserve:[\w:]+", rule["expr"])
    } | set(re.findall(r"encserve:\w+:\w+", RUNBOOKS.read_text()))
    assert used - recorded == set()
