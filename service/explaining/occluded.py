"""An input without some of its words, as the model reads it, within an allowance of tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from service.batching.queue import Priority
from service.engine import Engine
from service.errors import InvalidField
from service.explaining.words import Word, words_of
from service.inputs import Input, OwnIds, Pair, TokenIds
from service.options import Options
from service.runtime.outputs import FloatArray


class Occluded:
    """Scores of one input without some of its words; what was asked once is known.

    Left out are the tokens of a word, so nothing is tokenized again, and no other word changes.

    Args:
        max_runs: tokens that may be spent, in times the tokens of the whole input.

    Attributes:
        words: of the part of the input that the model reads, in their order.
        truncated: the input goes on.
        tokens_spent: by all that was run.
    """

    def __init__(self, engine: Engine, text: Input, options: Options, max_runs: float) -> None:
        if isinstance(text, TokenIds):
            raise InvalidField("token ids have no words: send the text", param="input")
        self._engine = engine
        # Nobody waits for a single one of these runs, and none of them is a caller's text.
        self._options = replace(
            options, priority=Priority.BULK, overflow="truncate", partial=False, work=None
        )
        prompt_chars = 0
        read: str | tuple[str, str] = text
        if not isinstance(text, Pair):
            (read,) = engine.with_prompt([text], options.prompt_name)
            prompt_chars = len(read) - len(text)
        tokens = engine.tokenizer.tokens_read(read)
        self._ids = [token.id for token in tokens]
        self.words: Sequence[Word] = words_of(text, tokens, prompt_chars)
        self._left = max_runs * len(self._ids)
        self._rows: dict[tuple[int, ...], FloatArray] = {}
        self.tokens_spent = 0

    @property
    def runs_left(self) -> float:
        """Of the allowance, in times the whole input."""
        return self._left / len(self._ids)

    def affordable(self, wanted: Iterable[Sequence[Word]]) -> list[Sequence[Word]]:
        """As many of `wanted`, from the first, as the allowance is enough for."""
        left = self._left
        chosen = []
        for removed in wanted:
            ids = self._without(removed)
            left -= 0 if ids in self._rows else len(ids)
            if left < 0:
                break
            chosen.append(removed)
        return chosen

    async def rows(self, wanted: Sequence[Sequence[Word]]) -> FloatArray:
        """The model's rows, [n, labels] float32, without the words of each entry."""
        inputs = [self._without(removed) for removed in wanted]
        new = [OwnIds(ids) for ids in dict.fromkeys(inputs) if ids not in self._rows]
        if new:
            computed = await self._engine.compute(new, self._options)
            for ids, row in zip(new, computed.rows, strict=True):
                assert isinstance(row, np.ndarray)
                self._rows[tuple(ids)] = row
            spent = sum(map(len, new))
            self._left -= spent
            self.tokens_spent += spent
        return np.stack([self._rows[ids] for ids in inputs])

    def _without(self, removed: Sequence[Word]) -> tuple[int, ...]:
        places = {place for word in removed for place in word.tokens}
        return tuple(one for place, one in enumerate(self._ids) if place not in places)
