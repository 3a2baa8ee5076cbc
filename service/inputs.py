"""What a model may be asked about: a text, a pair of texts, or token ids."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# Of English texts, roughly.
CHARS_A_TOKEN = 4


class Pair(NamedTuple):
    """Two texts that a model judges together, as a question and an answer to it."""

    first: str
    second: str


class TokenIds(tuple[int, ...]):
    """Ids of the model's own tokenizer, special tokens included, in the place of a text."""

    __slots__ = ()


class OwnIds(TokenIds):
    """Ids that this service put together, of one text or of a pair: run as they stand."""

    __slots__ = ()


Input = str | Pair | TokenIds


def characters(text: Input) -> int:
    """Of a text or of both texts of a pair; ids have none."""
    if isinstance(text, TokenIds):
        return 0
    return len(text) if isinstance(text, str) else sum(map(len, text))


def about_tokens(text: Input) -> int:
    """How many it will be, told before it is tokenized; at least one."""
    if isinstance(text, TokenIds):
        return max(1, len(text))
    return 1 + characters(text) // CHARS_A_TOKEN


def portions(items: Sequence[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The items in their order, in lists of at most the size `most` or one larger item."""
    portion: list[T] = []
    filled = 0
    for item in items:
        if portion and filled + size(item) > most:
            yield portion
            portion, filled = [], 0
        portion.append(item)
        filled += size(item)
    yield portion
