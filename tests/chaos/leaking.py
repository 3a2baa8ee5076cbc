"""`encserve` with a leak: a mebibyte for each request whose first text begins with `LEAK`.

python -m tests.chaos.leaking serve ...
"""

from collections.abc import Callable, Sequence
from typing import Any

from service.cli import main
from service.inputs import Input
from service.options import Options
from service.preparing import Prepared, Preparer

LEAK = "leak"
LEAKED_BYTES = 2**20


class Leaking:
    """In the place of `Preparer.prepare`."""

    def __init__(self, prepare: Callable[..., Any]) -> None:
        self._prepare = prepare
        self._kept: list[bytes] = []

    async def __call__(
        self, preparer: Preparer, inputs: Sequence[Input], options: Options, admit: object
    ) -> Prepared:
        if isinstance(inputs[0], str) and inputs[0].startswith(LEAK):
            self._kept.append(b"x" * LEAKED_BYTES)
        prepared: Prepared = await self._prepare(preparer, inputs, options, admit)
        return prepared


def leak() -> None:
    leaking = Leaking(Preparer.prepare)

    async def prepare(*arguments: Any) -> Prepared:
        return await leaking(*arguments)

    Preparer.prepare = prepare  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    leak()
    main()
