import math
from contextlib import nullcontext

import pytest
from prometheus_client import CollectorRegistry

from service.batching.backlog import BULK, SHORT, Backlog, Lane
from service.errors import Overloaded
from service.metrics import Metrics

# What the backlogs below drain by.
TOKENS_A_SECOND = 200
TWO_BATCHES, MANY_BATCHES = Lane(1), Lane(5)


def new_backlog(
    *, max_tokens: int = 1000, max_wait_s: float = math.inf, registry: CollectorRegistry
) -> Backlog:
    metrics = Metrics(registry).of_model("fake", "1")
    return Backlog(max_tokens, max_wait_s, metrics)


def backlog_of(tokens: int) -> Backlog:
    backlog = new_backlog(registry=CollectorRegistry())
    backlog.enter(tokens, SHORT)
    return backlog


def measured_backlog(
    max_wait_s: float = math.inf, registry: CollectorRegistry | None = None
) -> Backlog:
    """An empty queue that was seen to drain 100 tokens each half second."""
    registry = registry or CollectorRegistry()
    backlog = new_backlog(max_tokens=10_000, max_wait_s=max_wait_s, registry=registry)
    backlog.enter(1, SHORT)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 0.5)
    backlog.leave(1, SHORT)
    backlog.note_run(100, now_s=25)
    return backlog


def retry_after_s(backlog: Backlog) -> float:
    with pytest.raises(Overloaded) as refusal:
        backlog.admit(1000, SHORT)
    return refusal.value.retry_after_s


def test_retry_time_is_what_the_queue_takes_at_the_speed_of_the_last_runs() -> None:
    backlog = backlog_of(900)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 0.5)
    assert retry_after_s(backlog) == pytest.approx(900 / 200, rel=0.01)


def test_idle_time_does_not_count_as_slowness() -> None:
    backlog = backlog_of(900)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 0.5)
    backlog.leave(900, SHORT)
    backlog.note_run(100, now_s=25.0)
    backlog.note_run(100, now_s=10_000.0)
    backlog.enter(900, SHORT)
    assert retry_after_s(backlog) == pytest.approx(900 / 200, rel=0.01)


def test_retry_time_is_a_second_at_least_and_before_anything_is_known() -> None:
    assert retry_after_s(backlog_of(900)) == 1
    backlog = backlog_of(900)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 1e-6)
    assert retry_after_s(backlog) == 1


def test_rate_follows_the_last_seconds_and_forgets_what_was_before() -> None:
    backlog = backlog_of(900)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 0.5)
    for turn in range(200):
        backlog.note_run(100, now_s=25 + turn * 0.05)
    assert retry_after_s(backlog) == pytest.approx(1, rel=0.01)
    for turn in range(20):
        backlog.note_run(100, now_s=35 + turn * 1.0)
    assert retry_after_s(backlog) == pytest.approx(900 / 100, rel=0.01)


def test_request_that_would_wait_too_long_is_refused_until_the_queue_has_drained() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(2 * TOKENS_A_SECOND, SHORT)
    backlog.admit(1000, SHORT)
    backlog.enter(100, SHORT)
    with pytest.raises(
        Overloaded, match=r"wait for 2\.5 s, .*ENCSERVE_MAX_QUEUE_WAIT_S"
    ) as refusal:
        backlog.admit(1, SHORT)
    assert refusal.value.retry_after_s == pytest.approx(2.5, rel=0.01)
    backlog.leave(100, SHORT)
    backlog.admit(1, SHORT)


def test_long_requests_that_wait_do_not_keep_out_a_short_one() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(8000, TWO_BATCHES)
    backlog.admit(100, SHORT)
    with pytest.raises(Overloaded):
        backlog.admit(100, TWO_BATCHES)


def test_short_requests_wait_for_as_much_of_the_long_ones_as_they_take_turns_with() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(300, SHORT)
    backlog.admit(100, SHORT)
    backlog.enter(8000, TWO_BATCHES)
    assert backlog.wait_s(SHORT) == pytest.approx(3, rel=0.01)
    with pytest.raises(Overloaded):
        backlog.admit(100, SHORT)


def test_large_request_waits_for_as_much_of_each_other_size_as_of_its_own() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(8000, MANY_BATCHES)
    backlog.admit(100, TWO_BATCHES)
    backlog.enter(100, TWO_BATCHES)
    assert backlog.wait_s(TWO_BATCHES) == pytest.approx(1, rel=0.01)
    backlog.enter(50, SHORT)
    assert backlog.wait_s(TWO_BATCHES) == pytest.approx(1.25, rel=0.01)
    # Until its own 300 have run, 400 of the other size run and all that is short.
    backlog.admit(300, TWO_BATCHES, time_left_s=4.3)
    with pytest.raises(Overloaded, match=r"would take 4\.2 s"):
        backlog.admit(300, TWO_BATCHES, time_left_s=4.1)


def test_guess_waits_for_the_sizes_beside_it_too_but_not_for_far_ones() -> None:
    """Else all were tokenized to be refused whose guess is an empty lane."""
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(3 * TOKENS_A_SECOND, Lane(3))
    for guess in (Lane(1), Lane(2), Lane(4)):
        backlog.admit(100, guess)
        with pytest.raises(Overloaded):
            backlog.admit(100, guess, guessed=True)
    for guess in (SHORT, Lane(5)):
        backlog.admit(100, guess, guessed=True)


def test_what_is_being_tokenized_is_waited_for_as_if_it_were_there() -> None:
    registry = CollectorRegistry()
    backlog = measured_backlog(max_wait_s=2, registry=registry)
    with backlog.expecting(500, TWO_BATCHES, nullcontext()):
        with pytest.raises(Overloaded):
            backlog.admit(1, TWO_BATCHES)
        backlog.admit(1, SHORT)
        labels = {"model": "fake", "version": "1"}
        assert registry.get_sample_value("encserve_queue_tokens", labels) == 0
    backlog.admit(1, TWO_BATCHES)


def test_bulk_may_wait_as_long_as_it_has_room_and_keeps_nobody_out() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(8000, BULK)
    backlog.admit(100, BULK)
    backlog.admit(100, SHORT)
    with pytest.raises(Overloaded, match="ENCSERVE_MAX_QUEUE_TOKENS"):
        backlog.admit(2001, BULK)


def test_what_cannot_be_done_before_its_deadline_is_refused_early() -> None:
    backlog = measured_backlog()
    backlog.enter(TOKENS_A_SECOND, SHORT)
    backlog.admit(100, SHORT, time_left_s=1.6)
    with pytest.raises(Overloaded, match=r"would take 1\.5 s, .* over in 1\.4 s") as refusal:
        backlog.admit(100, SHORT, time_left_s=1.4)
    assert refusal.value.retry_after_s == pytest.approx(1, rel=0.01)


def test_request_that_finds_nothing_before_it_is_admitted_whatever_was_measured() -> None:
    backlog = measured_backlog(max_wait_s=0.001)
    backlog.admit(10_000, TWO_BATCHES, time_left_s=0.001)


def test_texts_that_need_no_run_are_admitted_however_long_the_queue_is() -> None:
    backlog = measured_backlog(max_wait_s=2)
    backlog.enter(9000, SHORT)
    backlog.admit(0, SHORT)


def test_predicted_wait_is_a_metric_that_goes_back_to_nothing() -> None:
    registry = CollectorRegistry()
    backlog = measured_backlog(registry=registry)

    def told() -> float | None:
        return registry.get_sample_value(
            "encserve_queue_wait_seconds", {"model": "fake", "version": "1"}
        )

    assert told() == 0
    backlog.enter(2 * TOKENS_A_SECOND, SHORT)
    backlog.note_run(100, now_s=25.5)
    assert told() == pytest.approx(2, rel=0.01)
    backlog.leave(2 * TOKENS_A_SECOND, SHORT)
    backlog.note_run(100, now_s=26)
    assert told() == pytest.approx(0)
