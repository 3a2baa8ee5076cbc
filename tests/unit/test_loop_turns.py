"""When the event loop has no time for more requests, by a clock that moves as the test says."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.api.loop_turns import PATIENCE_S, TURN_S, LoopTurns
from service.errors import Overloaded


class Loop:
    """Turns of a real event loop, in which requests take time on a clock of ours."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.computed_s = 0.0
        self.turns = LoopTurns(lambda: self.now_s, lambda: self.computed_s)

    async def turn(self, requests: int, each_s: float) -> int:
        """How many of the requests of a turn are taken, each for so long."""
        taken = 0
        for _ in range(requests):
            try:
                self.turns.check()
            except Overloaded:
                continue
            self.now_s += each_s
            self.computed_s += each_s
            taken += 1
        await asyncio.sleep(0)
        return taken


def in_a_loop(body: Callable[[Loop], Awaitable[None]]) -> None:
    async def run() -> None:
        await body(Loop())

    asyncio.run(run())


def test_burst_is_taken_whole_however_large_it_is() -> None:
    async def body(loop: Loop) -> None:
        assert await loop.turn(1000, TURN_S / 100) == 1000
        loop.now_s += 60
        assert await loop.turn(1000, TURN_S / 100) == 1000

    in_a_loop(body)


def test_turns_that_stay_too_long_are_cut_and_what_is_left_is_refused() -> None:
    async def body(loop: Loop) -> None:
        while await loop.turn(200, TURN_S / 100) == 200:
            pass
        assert loop.now_s >= 100 + PATIENCE_S
        for _ in range(10):
            assert 100 <= await loop.turn(200, TURN_S / 100) <= 102

    in_a_loop(body)


def test_one_request_a_turn_is_always_taken_even_if_it_alone_is_too_long() -> None:
    async def body(loop: Loop) -> None:
        for _ in range(20):
            assert await loop.turn(1, 2 * TURN_S) == 1

    in_a_loop(body)


@pytest.mark.parametrize("pause_s", [0.0, 60.0])
def test_a_short_turn_or_a_pause_ends_the_overload(pause_s: float) -> None:
    async def body(loop: Loop) -> None:
        while await loop.turn(200, TURN_S / 100) == 200:
            pass
        if pause_s:
            loop.now_s += pause_s
        else:
            assert await loop.turn(50, TURN_S / 100) == 50
        assert await loop.turn(200, TURN_S / 100) == 200

    in_a_loop(body)


def test_time_that_other_processes_take_of_the_machine_is_no_reason_to_refuse() -> None:
    async def body(loop: Loop) -> None:
        for _ in range(50):
            loop.turns.check()
            loop.now_s += 10 * TURN_S
            assert await loop.turn(5, TURN_S / 100) == 5

    in_a_loop(body)
