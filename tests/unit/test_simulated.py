"""The simulated replica does what arithmetic says, where arithmetic can say it."""

from dataclasses import replace

import pytest

from benchmarks.sheet import MAX_BATCH_TOKENS, Costs, LoopCost, PartLoad, RunCost
from benchmarks.simulated import MAX_QUEUE_TOKENS
from benchmarks.simulated_drive import drive

RUN = RunCost(run_s=0.001, text_s=0.0, token_s=0.0001, pair_s=0.0)
FREE_LOOP = LoopCost(0.0, 0.0, 0.0)


def costs(cores: int = 1, loop: LoopCost = FREE_LOOP, client_s: float = 0.0) -> Costs:
    return Costs(cores, RUN, RUN, loop, client_s)


def test_alone_a_request_takes_what_its_parts_take() -> None:
    loop = LoopCost(request_s=0.002, text_s=0.0, token_s=0.0)
    seen = drive(costs(loop=loop, client_s=0.001), [[50]], 1.0)
    assert seen.latencies_s == pytest.approx([0.002 + 0.006 + 0.001] * len(seen.latencies_s))


def test_saturated_workers_make_full_batches() -> None:
    # Two texts of 64 tokens fill a batch.
    seen = drive(costs(cores=2), [[MAX_BATCH_TOKENS // 2]], 20.0, clients=64)
    assert seen.texts / seen.took_s == pytest.approx(2 * 2 / RUN.of([64, 64]), rel=0.02)


def test_the_event_loop_takes_its_time_from_the_runs() -> None:
    loop = LoopCost(request_s=RUN.of([128]), text_s=0.0, token_s=0.0)
    free = drive(costs(), [[128]], 20.0, clients=8)
    busy = drive(costs(loop=loop), [[128]], 20.0, clients=8)
    assert busy.texts / busy.took_s == pytest.approx(free.texts / free.took_s / 2, rel=0.1)


def test_what_the_event_loop_takes_is_taken_from_the_runs_once() -> None:
    loop = LoopCost(request_s=0.008, text_s=0.0, token_s=0.0)
    # As long as a batch is: each text a run of its own.
    seen = drive(costs(cores=2, loop=loop), [[MAX_BATCH_TOKENS]], 60.0, clients=16)
    a_text_s = RUN.of([MAX_BATCH_TOKENS]) + loop.request_s
    assert seen.texts / seen.took_s == pytest.approx(2 / a_text_s, rel=0.005)


def test_runs_never_do_more_than_the_cores_can() -> None:
    """Also with the express beside long texts on every worker."""
    lengths = [[1024], [10], [10], [300]]
    seen = drive(costs(cores=2), lengths, 60.0, clients=16, wide=False)
    mean_s = sum(RUN.of(one) for one in lengths) / len(lengths)
    assert seen.texts / seen.took_s == pytest.approx(2 / mean_s, rel=0.05)


def test_waking_up_delays_a_request_and_takes_no_core() -> None:
    waking = replace(costs(), part_loads=(PartLoad(0.5, woken_s=0.004),))
    alone = drive(waking, [[50]], 1.0)
    # The event loop for the request and for its answer, and who asks for the answer.
    assert alone.latencies_s[1:] == pytest.approx([0.006 + 3 * 0.004] * len(alone.latencies_s[1:]))
    many, without = (drive(one, [[50]], 20.0, clients=64) for one in (waking, costs()))
    assert many.texts / many.took_s == pytest.approx(without.texts / without.took_s, rel=0.02)


def test_open_load_within_capacity_is_all_answered() -> None:
    seen = drive(costs(cores=2), [[10], [60], [300]], 60.0, rate=30)
    assert len(seen.latencies_s) == pytest.approx(30 * 60, rel=0.1)
    assert not seen.refused


def test_open_load_beyond_capacity_is_refused_by_the_queue() -> None:
    seen = drive(costs(), [[1024]], 60.0, rate=40)
    assert seen.refused
    longest_s = MAX_QUEUE_TOKENS / 1024 * RUN.of([1024])
    assert max(seen.latencies_s) == pytest.approx(longest_s, rel=0.05)


def test_same_seed_gives_the_same_day() -> None:
    first, again = (drive(costs(2), [[10], [90]], 5.0, rate=100, seed=3) for _ in range(2))
    assert first.latencies_s == again.latencies_s
