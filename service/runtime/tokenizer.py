"""Text to token ids with the `tokenizers` library; what does not fit is cut, refused or spread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tokenizers

from service.errors import ModelCorrupt

Side = Literal["left", "right"]

# Neighbouring windows share this part of their length, so that no passage lacks its context.
WINDOW_OVERLAP = 1 / 8


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Token ids of one text, special tokens included.

    full_tokens: of the whole text. blank: special tokens are all there is.
    """

    token_ids: list[int]
    full_tokens: int
    blank: bool

    @property
    def truncated(self) -> bool:
        """The text went on."""
        return self.full_tokens > len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text. start, end: in characters of the text; a special token stands at none.

    text: as the vocabulary writes it. part: 1 in the second text of a pair, else 0.
    """

    id: int
    text: str
    special: bool
    start: int | None
    end: int | None
    part: int = 0


class Tokenizer:
    """Every text is counted whole, 19 ms for 100,000 characters. Safe to call from several threads.

    Args:
        path: a `tokenizer.json`; padding and truncation it may carry are switched off.
        max_tokens: longest input of the model, special tokens included.
        pairs: the model reads pairs, whose separator must not be written out by a text: what looks
            like a special token is then taken as the words it is made of.

    Raises:
        ModelCorrupt: the file is not a tokenizer.
    """

    def __init__(self, path: Path, max_tokens: int, *, pairs: bool = False) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelCorrupt(f"{path.name} is not a tokenizer") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = pairs
        self.max_tokens = max_tokens
        self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._before = _special_tokens_before(self._tokenizer)
        self._after = self._special_tokens - self._before

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def unknown_id(self) -> int | None:
        """What stands for what the vocabulary lacks; None where any text has tokens."""
        written = getattr(self._tokenizer.model, "unk_token", None)
        return None if written is None else self._tokenizer.token_to_id(written)

    @property
    def pair_separator_id(self) -> int:
        """The token that ends each text of a pair.

        Raises:
            ModelCorrupt: the tokenizer joins pairs without one.
        """
        if not self._tokenizer.num_special_tokens_to_add(is_pair=True):
            raise ModelCorrupt("the tokenizer joins two texts without a separator between them")
        return int(self._tokenizer.encode("a", "b").ids[-1])

    def encode(self, texts: Sequence[str]) -> list[Tokenized]:
        """One entry a text, in order, cut on the right. Releases the interpreter's lock."""
        return [self.truncate(text) for text in self.encode_whole(texts)]

    def encode_whole(self, texts: Sequence[str]) -> list[Tokenized]:
        """One entry a text, in order, of any length; `truncate` or `windows` make them fit."""
        return [
            Tokenized(encoding.ids, len(encoding), blank=len(encoding) <= self._special_tokens)
            for encoding in self._tokenizer.encode_batch_fast(list(texts))
        ]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Tokenized]:
        """One entry a pair; of a pair too long, the longer text is cut first, on the right."""
        firsts, seconds = (
            self._tokenizer.encode_batch_fast(
                [pair[side] for pair in pairs], add_special_tokens=False
            )
            for side in (0, 1)
        )
        return [self._joined(*both) for both in zip(firsts, seconds, strict=True)]

    def truncate(self, text: Tokenized, side: Side = "right", kept: int = 0) -> Tokenized:
        """`text` within `max_tokens`: the tokens on `side` are left out.

        Args:
            kept: so many tokens after the leading special ones stay: those of a prompt.
        """
        ids = text.token_ids
        if len(ids) <= self.max_tokens:
            return text
        head = self._before + kept if side == "left" else self.max_tokens - self._after
        tail = self.max_tokens - head
        return replace(text, token_ids=ids[:head] + ids[len(ids) - tail :])

    def windows(self, text: Tokenized, kept: int = 0) -> list[list[int]]:
        """`text` as overlapping spans of at most `max_tokens`, special tokens around each.

        Args:
            kept: each span begins with so many of the text's first tokens: those of a prompt.
        """
        ids = text.token_ids
        if len(ids) <= self.max_tokens:
            return [ids]
        end = len(ids) - self._after
        head, tail = ids[: self._before + kept], ids[end:]
        room = self.max_tokens - len(head) - len(tail)
        step = max(1, room - int(room * WINDOW_OVERLAP))
        last = end - room
        starts = [*range(len(head), last, step), last]
        return [head + ids[start : start + room] + tail for start in starts]

    def tokens(self, text: str, *, special_tokens: bool = True) -> list[Token]:
        """The tokens of the whole text, each with its place in it."""
        return _tokens_of(self._tokenizer.encode(text, add_special_tokens=special_tokens))

    def tokens_read(self, text: str | tuple[str, str]) -> list[Token]:
        """The tokens of a text or a pair as `encode` or `encode_pairs` cut it."""
        if isinstance(text, str):
            tokens = self.tokens(text)
            end = len(tokens) - self._after
            room = self.max_tokens - self._after
            return tokens[: min(room, end)] + tokens[end:]
        first, second = (self._tokenizer.encode(one, add_special_tokens=False) for one in text)
        return _tokens_of(self._join(first, second))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids below `vocabulary_size`, as far as the vocabulary keeps it."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens))

    def _joined(self, first: tokenizers.Encoding, second: tokenizers.Encoding) -> Tokenized:
        special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        full_tokens = len(first) + len(second) + special_tokens
        ids = self._join(first, second).ids
        return Tokenized(ids, full_tokens, blank=full_tokens <= special_tokens)

    def _join(self, first: tokenizers.Encoding, second: tokenizers.Encoding) -> tokenizers.Encoding:
        """Both as one input that fits; the longer one is cut."""
        room = self.max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=True)
        room = max(0, room)
        shorter = min(len(first), len(second), room // 2)
        first.truncate(room - shorter if len(first) > len(second) else shorter)
        second.truncate(room - len(first))
        return self._tokenizer.post_process(first, second)


def _tokens_of(encoding: tokenizers.Encoding) -> list[Token]:
    return [
        Token(token_id, written, special, None, None)
        if special
        else Token(token_id, written, special, *place, part or 0)
        for token_id, written, special, place, part in zip(
            encoding.ids,
            encoding.tokens,
            map(bool, encoding.special_tokens_mask),
            encoding.offsets,
            encoding.sequence_ids,
            strict=True,
        )
    ]


def _special_tokens_before(tokenizer: tokenizers.Tokenizer) -> int:
    """How many special tokens stand before a text's own."""
    mask = tokenizer.encode("a").special_tokens_mask
    return mask.index(0) if 0 in mask else len(mask)
