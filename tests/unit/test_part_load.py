"""What a part load costs is read off the loads that were measured, and holds between them."""

from dataclasses import replace

import pytest

from benchmarks.part_load import Busy, with_part_loads
from benchmarks.sheet import Costs, LoopCost, PartLoad, RunCost
from benchmarks.simulated_drive import drive

RUN = RunCost(run_s=0.001, text_s=0.0, token_s=0.0001, pair_s=0.0)
FULL = Costs(2, RUN, RUN, LoopCost(0.001, 0.0, 0.0), client_request_s=0.0005)


def seen(busy: float, times: float, *, rested: bool = False, alone: bool = False) -> Busy:
    """The generator takes 0.1 ms a request, and as much again for a timer."""
    client_s = times * (0.0002 if rested else 0.0001)
    return Busy(busy, 0.001 * times, client_s, 0.0004, 0.0006, alone, rested)


SEEN = [
    seen(0.2, 3.0, rested=True, alone=True),
    seen(0.6, 2.0, alone=True),
    # Noise: less busy, and yet cheaper than the next.
    seen(0.7, 1.4),
    seen(0.8, 1.6),
    seen(1.0, 1.2),
]


def test_what_was_measured_is_found_again_and_lies_in_a_line_between() -> None:
    found = with_part_loads(FULL, 0.001, SEEN)
    assert [found.at(busy).times for busy in (0.0, 0.2, 0.4, 0.6, 0.75, 1.0)] == pytest.approx(
        [3.0, 3.0, 2.5, 2.0, 1.5, 1.2]
    )
    assert found.client_request_s == pytest.approx(0.0001)
    assert found.client_timer_s == pytest.approx(0.0001)


def test_a_worker_waits_for_the_machine_only_where_nobody_shares_it() -> None:
    found = with_part_loads(FULL, 0.001, SEEN)
    assert [found.at(busy).worker_woken_s for busy in (0.2, 0.6, 0.8, 1.0)] == pytest.approx(
        [0.0003, 0.0003, 0.00015, 0.0]
    )
    assert found.at(0.5).woken_s == pytest.approx(0.0002)


def test_worker_that_sleeps_delays_its_run_and_uses_nothing_meanwhile() -> None:
    waking = replace(FULL, part_loads=(PartLoad(0.5, worker_woken_s=0.004),))
    late, usual = (drive(one, [[10]], 1.0) for one in (waking, FULL))
    assert late.latencies_s[0] - usual.latencies_s[0] == pytest.approx(0.004)
    assert late.runs_s / late.texts == pytest.approx(usual.runs_s / usual.texts)


def test_request_that_a_timer_sends_takes_the_generator_longer() -> None:
    timed = replace(FULL, client_timer_s=0.003)
    for rest_s, longer_s in ((0.0, 0.0), (0.1, 0.003)):
        late, usual = (drive(one, [[10]], 1.0, rest_s=rest_s).latencies_s for one in (timed, FULL))
        assert late[-1] - usual[-1] == pytest.approx(longer_s)


def test_event_loop_that_sleeps_between_requests_takes_as_much_more_for_each() -> None:
    dear = replace(FULL, part_loads=(PartLoad(0.1, times=3.0), PartLoad(0.9, times=1.0)))
    slow, usual = (drive(one, [[10]], 20.0, rest_s=0.5).latencies_s for one in (dear, FULL))
    assert slow[-1] - usual[-1] == pytest.approx(2 * (0.001 + 0.0005), rel=0.1)
    many, without = (drive(one, [[10]], 20.0, clients=64) for one in (dear, FULL))
    assert many.texts == pytest.approx(without.texts, rel=0.02)
