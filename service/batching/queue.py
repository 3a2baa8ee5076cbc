"""What waits and what goes into the next batch: decisions without clock, thread or asyncio."""

from collections import deque
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the queue needs to know of a text that waits."""

    @property
    def tokens(self) -> int: ...

    @property
    def abandoned(self) -> bool:
        """True once nobody wants the answer any more."""
        ...


ItemT = TypeVar("ItemT", bound=Waiting)


class TokenQueue(Generic[ItemT]):
    """First come, first served, in batches of at most a number of tokens."""

    def __init__(self) -> None:
        self._items: deque[ItemT] = deque()
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def tokens(self) -> int:
        """Tokens of all texts that wait, abandoned ones included until `take` passes them."""
        return self._tokens

    def put(self, items: list[ItemT]) -> None:
        self._items.extend(items)
        self._tokens += sum(item.tokens for item in items)

    def take(self, max_tokens: int) -> list[ItemT]:
        """The next batch: from the front, at most `max_tokens` in all, abandoned texts dropped.

        A text longer than `max_tokens` forms a batch of its own. The list is empty only if
        nothing waits.
        """
        batch: list[ItemT] = []
        batch_tokens = 0
        while self._items:
            item = self._items[0]
            if item.abandoned:
                self._pop()
                continue
            if batch and batch_tokens + item.tokens > max_tokens:
                break
            batch.append(self._pop())
            batch_tokens += item.tokens
        return batch

    def clear(self) -> list[ItemT]:
        """Empty the queue and return what waited."""
        items = list(self._items)
        self._items.clear()
        self._tokens = 0
        return items

    def _pop(self) -> ItemT:
        item = self._items.popleft()
        self._tokens -= item.tokens
        return item
