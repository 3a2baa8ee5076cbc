"""The words of an input, each with the tokens that are its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.inputs import Input, Pair
from service.runtime.tokenizer import Token

# Chinese has no spaces: each character is taken for a word.
_HAN = r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_LETTERS = rf"(?:(?!{_HAN})\w)+"
# Marks go with the word that they stand at; alone they are a word of their own, as emoji are.
_WORD = re.compile(rf"[^\w\s]*(?:{_HAN}|{_LETTERS}(?:['\u2019-]{_LETTERS})*)[^\w\s]*|[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or several that are left out together. start, end: in characters of its text.

    part: 0, or 1 in the second text of a pair. tokens: places among the input's tokens.
    """

    part: int
    start: int
    end: int
    tokens: tuple[int, ...]

    def joined(self, last: "Word") -> "Word":
        """From this word to `last`, which stands after it in the same text."""
        return Word(self.part, self.start, last.end, self.tokens + last.tokens)


def words_of(text: Input, tokens: Sequence[Token], prompt_chars: int) -> list[Word]:
    """In the order of the text; what the model does not read has no word here.

    Args:
        tokens: of the input as the model reads it, a prompt of `prompt_chars` before it.
    """
    parts = text if isinstance(text, Pair) else (text,)
    words: list[Word] = []
    for part, written in enumerate(parts):
        assert isinstance(written, str)
        places = [
            (place, token.start - prompt_chars, token.end - prompt_chars)
            for place, token in enumerate(tokens)
            if token.part == part and token.start is not None and token.end is not None
        ]
        words += _within(written, part, places)
    return words


def _within(text: str, part: int, places: Sequence[tuple[int, int, int]]) -> list[Word]:
    """Words of one text; such as share a token are one."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        own = tuple(place for place, first, last in places if first < end and last > start)
        if not own:
            continue
        word = Word(part, start, end, own)
        if found and found[-1].tokens[-1] == own[0]:
            word = found.pop().joined(Word(part, start, end, own[1:]))
        found.append(word)
    return found
