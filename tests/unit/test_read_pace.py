"""Whether a caller reads what waits for it, told by bytes and a clock that the test moves."""

from service.api.read_pace import MIN_READ_BYTES_S, ReadPace

TIMEOUT_S = 10.0
AT_PACE = round(TIMEOUT_S * MIN_READ_BYTES_S)


def test_reader_who_takes_nothing_is_too_slow_when_the_time_is_over() -> None:
    pace = ReadPace(TIMEOUT_S)
    pace.written = 5000
    assert not pace.is_too_slow(0.0, 5000)
    assert not pace.is_too_slow(9.9, 5000)
    assert pace.is_too_slow(10.0, 5000)


def test_reader_at_pace_is_not_too_slow_though_as_much_waits_as_before() -> None:
    """As of a stream, which writes on as it is read."""
    pace = ReadPace(TIMEOUT_S)
    pace.written = waiting = 10 * AT_PACE
    assert not pace.is_too_slow(0.0, waiting)
    for number in range(1, 10):
        pace.written += AT_PACE
        assert not pace.is_too_slow(number * TIMEOUT_S, waiting)
    pace.written += AT_PACE // 2
    assert pace.is_too_slow(10 * TIMEOUT_S, waiting)


def test_reader_who_took_all_that_there_was_is_not_too_slow_for_what_came_just_now() -> None:
    pace = ReadPace(TIMEOUT_S)
    pace.written = 100
    assert not pace.is_too_slow(0.0, 100)
    pace.written = 200
    assert not pace.is_too_slow(10.0, 100)
    assert pace.is_too_slow(20.0, 100)


def test_what_was_read_is_forgotten() -> None:
    pace = ReadPace(TIMEOUT_S)
    pace.written = 100
    assert not pace.is_too_slow(0.0, 100)
    assert not pace.is_too_slow(5.0, 0)
    assert pace.due_s == float("inf")
    pace.written = 200
    assert not pace.is_too_slow(12.0, 100)
    assert pace.is_too_slow(22.0, 100)
