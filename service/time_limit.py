"""A time that work may take, and the error that says that it was over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineExceeded


@asynccontextmanager
async def time_limit(seconds: float, left_s: float) -> AsyncIterator[None]:
    """End the block after `left_s` of the `seconds` that the whole may take.

    Raises:
        DeadlineExceeded: it was not done by then.
    """
    try:
        async with asyncio.timeout(left_s):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"no answer within {seconds:g} s (ENCSERVE_REQUEST_TIMEOUT_S, or what the caller "
            "allows): send fewer texts at a time, or send the request again later"
        ) from error
