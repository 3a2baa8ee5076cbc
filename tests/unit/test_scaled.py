"""The simulated autoscaler decides as Kubernetes documents it, by the manifest's own numbers."""

import random

import pytest

from benchmarks.day import rate_at
from benchmarks.scaled import BUSY, CPU, WAIT, Autoscaler, Policy, policy_of, simulate_day, wanted
from benchmarks.sheet import Costs, LoopCost, RunCost

OWN = policy_of()
QUIET = {WAIT: 0.0, BUSY: 0.0, CPU: 0.0}
# A text of 100 tokens takes a tenth of a second: ten texts a second and replica.
SLOW = Costs(
    1, RunCost(0, 0, 0.001, 0), RunCost(0, 0, 0.001, 0), LoopCost(0, 0, 0), client_request_s=0
)


def test_policy_is_read_from_the_manifest() -> None:
    assert OWN.targets == {WAIT: 0.1, BUSY: 0.7}
    assert (OWN.least, OWN.most, OWN.down_window_s) == (2, 6, 600)


@pytest.mark.parametrize(
    ("replicas", "wait_s", "busy", "expected"),
    [(2, 0.2, 0.7, 4), (4, 0.0, 0.9, 6), (4, 0.105, 0.71, 4), (3, 0.0, 0.2, 2), (5, 9.0, 1.0, 6)],
    ids=["twice the wait", "workers too busy", "within a tenth", "idle", "no more than the most"],
)
def test_the_largest_answer_counts(
    replicas: int, wait_s: float, busy: float, expected: int
) -> None:
    assert wanted(OWN, replicas, {WAIT: wait_s, BUSY: busy}) == expected


def test_scaling_up_is_held_to_the_larger_of_its_rates() -> None:
    scaler = Autoscaler(policy_of(most=100))
    crowded = {WAIT: 60.0, BUSY: 1.0}
    assert scaler.decide(0, 5, crowded) == 10
    assert scaler.decide(15, 10, crowded) == 10
    assert scaler.decide(75, 10, crowded) == 20


def test_scaling_down_waits_for_ten_quiet_minutes_and_goes_by_a_fifth() -> None:
    scaler = Autoscaler(policy_of(most=100))
    assert scaler.decide(0, 10, {WAIT: 0.0, BUSY: 0.7}) == 10
    steps = [scaler.decide(at_s, 10, QUIET) for at_s in range(15, 630, 15)]
    assert steps[:39] == [10] * 39
    assert steps[-1] == 8


def test_replicas_follow_the_load_and_every_text_is_answered() -> None:
    policy = Policy({WAIT: 0.1, BUSY: 0.7}, least=1, most=8, down_window_s=60)

    def rate(now_s: float) -> float:
        return 30.0 if 120 <= now_s < 480 else 3.0

    day = simulate_day(SLOW, rate, 30, lambda _: [100], policy, seconds=900)
    counts = dict(day.replicas)
    assert counts[105] <= 2
    assert 4 <= counts[465] <= 8
    assert counts[885] < counts[465]
    assert not day.refused
    assert day.texts == pytest.approx(30 * 360 + 3 * 540, rel=0.05)


def test_a_day_has_its_peak_and_its_burst() -> None:
    rates = {hour: rate_at(hour * 3600, low=10, peak=100) for hour in (4, 10, 16)}
    assert rates == pytest.approx({4: 10, 10: 55, 16: 100})
    at_s = 15 * 3600 + random.Random(0).randrange(600)
    assert rate_at(at_s, low=10, peak=100) > 1.9 * rate_at(at_s - 900, low=10, peak=100)
