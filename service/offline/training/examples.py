"""Labelled examples as training takes them: token ids and targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.offline.checkpoints import Checkpoint
from service.offline.data import Example, Input
from service.offline.evaluation.targets import targets_of
from service.offline.training.batches import packed_tensors
from service.runtime.outputs import ProblemType
from service.runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class Rows:
    """Tokenized examples.

    targets: as `loss_of` takes them, [n] int64 or [n, labels] float32.
    """

    ids: list[list[int]]
    targets: Tensor

    @property
    def lengths(self) -> list[int]:
        return [len(text) for text in self.ids]


class Reader:
    """Examples to token ids and targets, texts or pairs as the training examples are."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        examples: Sequence[Example],
        problem_type: ProblemType,
        max_tokens: int | None,
    ) -> None:
        """max_tokens: cut longer texts; None for the longest that the checkpoint reads."""
        pairs = examples[0].pair is not None
        limit = min(max_tokens or checkpoint.max_tokens, checkpoint.max_tokens)
        self._tokenizer = Tokenizer(checkpoint.tokenizer_file, limit, pairs=pairs)
        self._problem_type = problem_type
        self.separator_id = self._tokenizer.pair_separator_id if pairs else None
        # Families without segments tell the texts of a pair apart by the separators alone.
        self._segments_by = self.separator_id if checkpoint.encoder.config.segments > 1 else None

    def __call__(self, examples: Sequence[Example], labels: tuple[str, ...]) -> Rows:
        targets = torch.from_numpy(targets_of(examples, labels, self._problem_type))
        return Rows(self._tokenize([example.input for example in examples]), targets)

    def packed(self, ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
        """The arguments of the model's `forward`."""
        return packed_tensors(ids, self._segments_by, device)

    def _tokenize(self, inputs: Sequence[Input]) -> list[list[int]]:
        texts = [entry for entry in inputs if isinstance(entry, str)]
        pairs = [entry for entry in inputs if not isinstance(entry, str)]
        tokenizer = self._tokenizer
        found = tokenizer.encode_pairs(pairs) if pairs else tokenizer.encode(texts)
        return [entry.token_ids for entry in found]
