"""How late the event loop is: whoever holds it makes every request wait."""

import asyncio

from prometheus_client import Histogram

LOOK_S = 0.25


async def watch_loop(lag: Histogram) -> None:
    """Sleep, and note how much later than asked for it ended; for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LOOK_S
        await asyncio.sleep(LOOK_S)
        lag.observe(max(0.0, loop.time() - due_s))
