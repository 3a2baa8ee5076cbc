"""What a model may be asked about: a text, a pair of texts, or token ids."""

from typing import NamedTuple


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
