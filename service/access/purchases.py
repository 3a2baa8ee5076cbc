"""What one request takes of its key's account: all its askings of models are one purchase."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Protocol, Self

from service.access.accounts import KeyAccount


class Account(Protocol):
    """Whoever pays for a request."""

    def expect(self, texts: int, about_tokens: int) -> None:
        """Raise what `spending` would at the least, before the texts are tokenized."""

    def spending(self, tokens: int) -> AbstractContextManager[None]:
        """While a model works on so many tokens; what ends in an error costs nothing."""

    def part(self) -> AbstractContextManager["Account"]:
        """For a part of a stream, which is a purchase by itself."""


class Unlimited:
    """Of a server that has no keys, and of its own work."""

    def expect(self, texts: int, about_tokens: int) -> None:
        return

    def spending(self, tokens: int) -> AbstractContextManager[None]:
        return nullcontext()

    def part(self) -> AbstractContextManager[Account]:
        return nullcontext(self)


UNLIMITED = Unlimited()


class Purchase:
    """The tokens of one request, which are paid if it is answered and else given back.

    A context manager: an exception in the block gives everything back, `void` does so without one.
    A caller who leaves (`asyncio.CancelledError`) has had the work done.
    """

    def __init__(self, key: KeyAccount) -> None:
        self.key = key
        self._taken = 0
        self._held = 0

    def expect(self, texts: int, about_tokens: int) -> None:
        """As `spending` of a token each; when to come back is told by what it will rather be.

        Raises:
            TooManyTokens, RateLimited: as `KeyAccount.check`.
        """
        self.key.check(texts, about_tokens, beside=self._taken, holding=self._held)

    @contextmanager
    def spending(self, tokens: int) -> Iterator[None]:
        """Raises as `KeyAccount.check`."""
        self.key.check(tokens, beside=self._taken, holding=self._held)
        self.key.take(tokens)
        self._taken += tokens
        self._held += tokens
        try:
            yield
        except Exception:
            self._taken -= tokens
            self.key.give_back(tokens)
            raise
        finally:
            self._held -= tokens
            self.key.release(tokens)

    def part(self) -> AbstractContextManager[Account]:
        return Purchase(self.key)

    def void(self) -> None:
        """The request was not answered: give back what it took."""
        self.key.give_back(self._taken)
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.void()
        self.key.count(self._taken)
