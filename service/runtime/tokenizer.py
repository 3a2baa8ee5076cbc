"""Text to token ids with the `tokenizers` library, truncation reported, no padding ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from service.errors import ModelCorrupt

# Of a long text the tokenizer sees this much at first, many times what a token usually covers.
FIRST_LOOK_CHARS_PER_TOKEN = 16
# A word of WordPiece has at most 100 characters, and so tokens; longer ones are one unknown token.
LONGEST_WORD_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Token ids of one text, special tokens included.

    truncated: the text went on. blank: special tokens are all there is.
    """

    token_ids: list[int]
    truncated: bool
    blank: bool


class Tokenizer:
    """Cuts at `max_tokens` on the right. Safe to call from several threads.

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
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.encode_special_tokens = pairs
        self._max_tokens = max_tokens
        self._first_look_chars = (max_tokens + LONGEST_WORD_TOKENS) * FIRST_LOOK_CHARS_PER_TOKEN
        self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

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
        """One entry a text, in order. Releases the interpreter's lock.

        The tail of a long text is not looked at, as it would only be thrown away. The cut lies more
        than a word behind the kept tokens, too far to change them.
        """
        first_looks = [text[: self._first_look_chars] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(first_looks)
        return [
            self._tokenized(self._long_enough(encoding, text))
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Tokenized]:
        """One entry a pair, as `encode`; of a pair too long, the longer text is cut first."""
        limit = self._first_look_chars
        encodings = self._tokenizer.encode_batch_fast([(a[:limit], b[:limit]) for a, b in pairs])
        special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        return [
            Tokenized(
                encoding.ids,
                truncated=bool(encoding.overflowing) or max(map(len, pair)) > limit,
                blank=len(encoding) <= special_tokens,
            )
            for encoding, pair in zip(encodings, pairs, strict=True)
        ]

    def _long_enough(self, encoding: tokenizers.Encoding, text: str) -> tokenizers.Encoding:
        seen_chars = self._first_look_chars
        while seen_chars < len(text) and not self._goes_far_enough(encoding):
            seen_chars *= 4
            encoding = self._tokenizer.encode_batch_fast([text[:seen_chars]])[0]
        return encoding

    def _goes_far_enough(self, encoding: tokenizers.Encoding) -> bool:
        """True if more tokens than a word has are left over; all but the last portion are full."""
        full_portions = len(encoding.overflowing) - 1
        return full_portions * (self._max_tokens - self._special_tokens) >= LONGEST_WORD_TOKENS

    def _tokenized(self, encoding: tokenizers.Encoding) -> Tokenized:
        return Tokenized(
            encoding.ids,
            truncated=bool(encoding.overflowing),
            blank=len(encoding) <= self._special_tokens,
        )
