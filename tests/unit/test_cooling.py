"""What rest costs is found again in answers that a simulated replica gave."""

from dataclasses import replace

import pytest

from benchmarks.cooling import RESTS_S, Rested, p50_s, with_cooling
from benchmarks.sheet import Cooling, Costs, LoopCost, RunCost

RUN = RunCost(run_s=0.001, text_s=0.0, token_s=0.0001, pair_s=0.0)
WARM = Costs(2, RUN, RUN, LoopCost(0.001, 0.0, 0.0), client_request_s=0.0001)
LENGTHS = [[10], [20], [15]]


def test_cooling_and_handing_over_are_found_from_the_answers_alone() -> None:
    real = replace(WARM, cooling=Cooling(0.004, 0.012, slower=2.0))
    # A cold event loop takes so much longer as `slower` says.
    loops_s = [0.001, *[0.003] * (len(RESTS_S) - 1)]
    seen = [
        Rested(rest_s, p50_s(real, LENGTHS, Rested(rest_s, 0.01, 0.0)), loop_s)
        for rest_s, loop_s in zip(RESTS_S, loops_s, strict=True)
    ]
    found = with_cooling(WARM, LENGTHS, seen)
    assert found.cooling.slower == pytest.approx(2.0)
    assert found.cooling.most_s == pytest.approx(0.004, rel=0.1)
    assert found.cooling.rest_s == pytest.approx(0.012, rel=0.2)
    for one in seen:
        assert p50_s(found, LENGTHS, one) == pytest.approx(one.p50_s, rel=0.03)
