"""The alert files of docker/prometheus/rules as one PrometheusRule of the Prometheus operator.

python -m deploy.prometheus_rule        (make kubernetes-rules) writes the component's rules.yaml
"""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docker" / "prometheus" / "rules"
TARGET = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "rules.yaml"
HEAD = "# Made by `make kubernetes-rules` from docker/prometheus/rules: change those.\n"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """Queries of several lines stay as they are read best."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def manifest() -> str:
    """The whole file; groups in the order of their files' names."""
    groups: list[Any] = []
    for file in sorted(RULES.glob("*.yml")):
        groups += yaml.safe_load(file.read_text())["groups"]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "encserve", "labels": {"app.kubernetes.io/name": "encserve"}},
        "spec": {"groups": groups},
    }
    text: str = yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=1000)
    return HEAD + text


if __name__ == "__main__":
    TARGET.write_text(manifest())
