import pytest
from prometheus_client import CollectorRegistry

from service.batching.backlog import Backlog
from service.errors import Overloaded
from service.metrics import Metrics


def backlog_of(tokens: int) -> Backlog:
    backlog = Backlog(1000, Metrics(CollectorRegistry()).of_model("fake", "1"))
    backlog.enter(tokens)
    return backlog


def retry_after_s(backlog: Backlog) -> float:
    with pytest.raises(Overloaded) as refusal:
        backlog.admit(1000)
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
    backlog.leave(900)
    backlog.note_run(100, now_s=25.0)
    backlog.note_run(100, now_s=10_000.0)
    backlog.enter(900)
    assert retry_after_s(backlog) == pytest.approx(900 / 200, rel=0.01)


def test_retry_time_is_a_second_at_least_and_before_anything_is_known() -> None:
    assert retry_after_s(backlog_of(900)) == 1
    backlog = backlog_of(900)
    for turn in range(50):
        backlog.note_run(100, now_s=turn * 1e-6)
    assert retry_after_s(backlog) == 1
