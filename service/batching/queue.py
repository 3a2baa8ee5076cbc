"""What waits and what goes into the next batch: decisions without clock, thread or asyncio."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import Generic, Protocol, TypeVar

# Texts looked at to find some of like length for a padded batch.
PADDED_WINDOW_TEXTS = 64


class Priority(IntEnum):
    """Which requests run first; bulk runs on what interactive ones leave."""

    INTERACTIVE = 0
    BULK = 1


def size_of(tokens: int, max_batch_tokens: int) -> int:
    """0 for a request that fits one batch, 1 for up to two of them, 2 for four, 3 for eight."""
    batches = -(-tokens // max_batch_tokens)
    return max(0, batches - 1).bit_length()


class Waiting(Protocol):
    """What the queue needs to know of a text that waits."""

    @property
    def tokens(self) -> int: ...

    @property
    def wanted(self) -> bool:
        """False once nobody waits for the answer, or a worker is at it already."""
        ...

    @property
    def deadline_s(self) -> float:
        """When the answer is worth nothing any more, on the clock of `take`."""
        ...


ItemT = TypeVar("ItemT", bound=Waiting)
_Request = deque[ItemT]
_Lane = deque[_Request[ItemT]]


@dataclass
class Taken(Generic[ItemT]):
    """The next batch, and texts found too old to be computed."""

    batch: list[ItemT] = field(default_factory=list)
    expired: list[ItemT] = field(default_factory=list)


@dataclass
class _Lanes(Generic[ItemT]):
    """The requests of one priority: those that fit one batch, and those that need several.

    long: by size, each lane for up to twice as much as the one before; in the order of their turns.
    """

    short: _Lane[ItemT] = field(default_factory=deque)
    long: dict[int, _Lane[ItemT]] = field(default_factory=dict)
    short_was_first: bool = False

    def put(self, request: _Request[ItemT], size: int) -> None:
        lane = self.long.setdefault(size, deque()) if size else self.short
        lane.append(request)

    def in_turn(self) -> tuple[_Lane[ItemT], ...]:
        long = self.long.values()
        return (*long, self.short) if self.short_was_first else (self.short, *long)

    def had_its_turn(self, lane: _Lane[ItemT]) -> None:
        """A batch began with a text of this lane, which goes behind the other ones."""
        self.short_was_first = lane is self.short
        in_turn = sorted(self.long.items(), key=lambda sized: sized[1] is lane)
        self.long = {size: other for size, other in in_turn if any(other)}

    def clear(self) -> None:
        self.short.clear()
        self.long.clear()


@dataclass(slots=True)
class _Place(Generic[ItemT]):
    """A text and where it stands."""

    lanes: _Lanes[ItemT]
    lane: _Lane[ItemT]
    request: _Request[ItemT]
    item: ItemT


class TokenQueue(Generic[ItemT]):
    """Batches within a token budget, fair among requests.

    Interactive requests run before bulk ones. Requests that fit one batch stand in a short lane;
    larger ones in lanes by size (two batches, four, eight). In a lane it is first come, first
    served. While short ones and others wait, batches start from them alternately, and those of the
    others from one lane after the other: large requests delay the short ones by at most one batch
    a worker, and get at least every second batch themselves.

    Args:
        max_batch_tokens: budget of a batch; a longer text runs alone.
        padded: count every text as long as the longest of its batch, and pick texts of like
            length out of the first `PADDED_WINDOW_TEXTS`. Each batch holds the text whose turn it
            is, so that one that is passed over keeps its turn.
    """

    def __init__(self, max_batch_tokens: int, *, padded: bool = False) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._padded = padded
        self._classes = {priority: _Lanes[ItemT]() for priority in Priority}

    def put(self, items: Sequence[ItemT], priority: Priority = Priority.INTERACTIVE) -> None:
        """Queue the texts of one request; a text may wait in several requests."""
        size = size_of(sum(item.tokens for item in items), self._max_batch_tokens)
        self._classes[priority].put(deque(items), size)

    def take(self, now_s: float, *, express: bool = False) -> Taken[ItemT]:
        """Remove and return the next batch; it is empty only if nothing wanted waits.

        Args:
            express: from the short lane of interactive requests only.
        """
        taken: Taken[ItemT] = Taken()
        places = self._places(now_s, taken.expired, express)
        if self._padded:
            chosen = _of_like_length(
                list(islice(places, PADDED_WINDOW_TEXTS)), self._max_batch_tokens
            )
        else:
            chosen = _first_within(places, self._max_batch_tokens)
        if not chosen:
            if not express:
                self.clear()
            return taken
        for place in chosen:
            place.request.remove(place.item)
        for place in chosen:
            _leave_if_empty(place.lane)
        first = chosen[0]
        first.lanes.had_its_turn(first.lane)
        taken.batch = [place.item for place in chosen]
        return taken

    def clear(self) -> None:
        for lanes in self._classes.values():
            lanes.clear()

    def _places(self, now_s: float, expired: list[ItemT], express: bool) -> Iterable[_Place[ItemT]]:
        """Every wanted text once, in its turn. Others are dropped when they come to the front."""
        seen: set[int] = set()
        for priority, lanes in self._classes.items():
            if express and priority is not Priority.INTERACTIVE:
                return
            for lane in (lanes.short,) if express else lanes.in_turn():
                for request in lane:
                    while request and not _runnable(request[0], now_s):
                        item = request.popleft()
                        if item.wanted:
                            expired.append(item)
                    for item in request:
                        # Several callers may have queued the same text.
                        if _runnable(item, now_s) and id(item) not in seen:
                            seen.add(id(item))
                            yield _Place(lanes, lane, request, item)


def _runnable(item: Waiting, now_s: float) -> bool:
    return item.wanted and now_s < item.deadline_s


def _first_within(places: Iterable[_Place[ItemT]], max_tokens: int) -> list[_Place[ItemT]]:
    chosen: list[_Place[ItemT]] = []
    room = max_tokens
    for place in places:
        if chosen and place.item.tokens > room:
            break
        chosen.append(place)
        room -= place.item.tokens
    return chosen


def _of_like_length(window: list[_Place[ItemT]], max_tokens: int) -> list[_Place[ItemT]]:
    """The first of the window, and those nearest to it in length that fit when padded."""
    if not window:
        return []
    first_tokens = window[0].item.tokens
    chosen: list[_Place[ItemT]] = []
    longest = 0
    for place in sorted(window, key=lambda place: abs(place.item.tokens - first_tokens)):
        longest = max(longest, place.item.tokens)
        if chosen and longest * (len(chosen) + 1) > max_tokens:
            break
        chosen.append(place)
    return chosen


def _leave_if_empty(lane: _Lane[ItemT]) -> None:
    """Requests of which nothing waits any more go when they are the first of their lane."""
    while lane and not lane[0]:
        lane.popleft()
