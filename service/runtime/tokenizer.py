"""Text to token ids with the `tokenizers` library, truncation reported, no padding ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from service.errors import ModelCorrupt


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Token ids of one text, special tokens included; `truncated` if the text went on."""

    token_ids: list[int]
    truncated: bool


class Tokenizer:
    """Cuts at `max_tokens` on the right. Safe to call from several threads.

    Args:
        path: a `tokenizer.json`; padding and truncation it may carry are switched off.
        max_tokens: longest input of the model, special tokens included.

    Raises:
        ModelCorrupt: the file is not a tokenizer.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelCorrupt(f"{path.name} is not a tokenizer") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[Tokenized]:
        """One entry a text, in order; a text of which nothing is left still has special tokens."""
        return [
            Tokenized(encoding.ids, truncated=bool(encoding.overflowing))
            for encoding in self._tokenizer.encode_batch_fast(list(texts))
        ]
