"""What the autoscalers ask, answered by Prometheus itself: one number, also when nobody asks."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.manifests import KUBERNETES, read
from tests.integration.test_alerts import promtool

# 100 texts a second and pod; of those of `embedding` nine in ten wait for at most 0.06 s and the
# others for up to 0.125 s; two workers a pod, of which one and a half are busy.
BUCKETS = {"0.06": 90, "0.125": 100, "+Inf": 100}
PODS = ("a", "b")


def adapter_queries() -> dict[str, str]:
    """As the adapter fills them in: for a namespace, and for the pods of one."""
    rules = read(KUBERNETES / "prometheus-adapter.yaml")["rules"]
    return {
        rule["name"]["as"]: rule["metricsQuery"]
        .replace("<<.LabelMatchers>>", 'namespace="default"')
        .replace("<<.GroupBy>>", "pod")
        for rule in [*rules["external"], *rules["custom"]]
    }


def keda_queries() -> dict[str, str]:
    scaled = read(KUBERNETES / "components" / "keda" / "scaled-object.yaml")
    return {one["name"]: one["metadata"]["query"] for one in scaled["spec"]["triggers"]}


def series(rate: float) -> list[dict[str, str]]:
    """Minute by minute for ten minutes, with so much of the traffic above."""
    found = []
    for pod in PODS:
        labels = f'job="encserve", namespace="default", pod="{pod}", model="embedding"'
        queue = f'encserve_stage_duration_seconds_bucket{{{labels}, stage="queue"'
        counters = {f'{queue}, le="{le}"}}': 60 * count for le, count in BUCKETS.items()}
        counters[f'encserve_stage_duration_seconds_sum{{{labels}, stage="infer"}}'] = 90
        found += [
            {"series": name, "values": f"0+{by * rate:g}x40"} for name, by in counters.items()
        ]
        found.append({"series": f"encserve_workers{{{labels}}}", "values": "2x40"})
    return found


WAIT_S = 0.06 + 0.5 * (0.125 - 0.06)  # halfway through the bucket of the last tenth
QUEUE, BUSY = "encserve_queue_wait_seconds_p95", "encserve_workers_busy_ratio"
FLOWING = {QUEUE: [WAIT_S], BUSY: [0.75, 0.75], "queue-wait": [WAIT_S], "workers-busy": [0.75]}
IDLE = {QUEUE: [0], BUSY: [0, 0], "queue-wait": [0], "workers-busy": [0]}


@pytest.mark.parametrize(
    ("rate", "expected"), [(1.0, FLOWING), (0.0, IDLE)], ids=["under load", "idle"]
)
def test_autoscalers_get_one_number_a_question(
    rate: float, expected: dict[str, list[float]], tmp_path: Path
) -> None:
    asked = adapter_queries() | keda_queries()
    assert asked.keys() == expected.keys()
    tests = [
        {
            "expr": query,
            "eval_time": "9m",
            "exp_samples": [
                {"labels": f'{{pod="{pod}"}}' if len(values) > 1 else "{}", "value": value}
                for pod, value in zip(PODS, values, strict=False)
            ],
        }
        for query, values in ((asked[name], values) for name, values in expected.items())
    ]
    case: dict[str, Any] = {
        "evaluation_interval": "15s",
        "tests": [
            {"interval": "15s", "input_series": _every_15_s(rate), "promql_expr_test": tests}
        ],
    }
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump(case))
    promtool("test", "rules", str(file))


def _every_15_s(rate: float) -> list[dict[str, str]]:
    return series(rate / 4)
