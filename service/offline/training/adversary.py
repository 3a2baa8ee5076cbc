"""Adversarial training: a step is learned once more with each text moved to where it is hardest."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Adversary:
    """Moves embedded tokens against the model (Miyato et al., 2017, arXiv:1605.07725).

    A pass in training leaves the gradient at the embeddings' output; within `moving`, the next pass
    begins from an output that is moved along it, as far for a short text as for a long one.

    Args:
        embeddings: whose output is moved, [t, d]; watched from now on.
        size: how far, as a share of the length of what is moved, all tokens of a text as one
            vector.
    """

    def __init__(self, embeddings: nn.Module, size: float) -> None:
        self._size = size
        self._embedded: Tensor | None = None
        self._move: Tensor | None = None
        self._watch = embeddings.register_forward_hook(self._on_output)

    def leave(self) -> None:
        """Training is over: the embeddings are as they were."""
        self._watch.remove()

    @contextmanager
    def moving(self, pad_index: Tensor, unpad_index: Tensor) -> Iterator[None]:
        """The next pass, of the same texts, is of what is hardest for the model near them."""
        assert self._embedded is not None
        assert self._embedded.grad is not None
        text_of_token = torch.div(unpad_index, pad_index.shape[1], rounding_mode="floor")
        self._move = self._size * _along(
            self._embedded.grad, self._embedded.detach(), text_of_token, len(pad_index)
        )
        try:
            yield
        finally:
            self._embedded = self._move = None

    def _on_output(self, module: nn.Module, _: object, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        if self._move is not None:
            return output + self._move
        # Frozen embeddings have no gradient of their own.
        self._embedded = output if output.requires_grad else output.requires_grad_()
        self._embedded.retain_grad()
        return self._embedded


def _along(gradient: Tensor, embedded: Tensor, text_of_token: Tensor, texts: int) -> Tensor:
    """[t, d]: in the direction of the gradient, and each text as long as it is embedded."""

    def lengths(rows: Tensor) -> Tensor:
        squares = rows.square().sum(dim=1)
        return rows.new_zeros(texts).index_add(0, text_of_token, squares).sqrt()

    # A text that teaches nothing has no direction, and stays where it is.
    scale = lengths(embedded) / lengths(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient * scale[text_of_token, None]
