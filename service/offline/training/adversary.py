"""Adversarial training: a step is learned once more with each text moved against the model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from service.offline.encoder import pad

# Of a gradient: shorter ones point nowhere, and what is divided by this stays finite.
_SHORTEST = 1e-18


class Adversary:
    """Perturbs embedded texts along the gradient of their loss, the fast gradient method.

    As of Miyato et al. (2017, arXiv:1605.07725), but for the place: what is perturbed is the output
    of the encoder's embeddings, behind their norm and dropout. A pass in training leaves its
    gradient there; within `perturbed`, the next pass begins from an output moved along it. It draws
    its own dropout, so that the move is one step uphill and no maximum.

    Args:
        embeddings: whose output is perturbed, [t, d]; watched from now on.
        epsilon: how far, as a share of the length of what was embedded, all tokens of a text as
            one vector.
    """

    def __init__(self, embeddings: nn.Module, epsilon: float) -> None:
        self._epsilon = epsilon
        self._embedded: Tensor | None = None
        self._perturbation: Tensor | None = None
        self._hook = embeddings.register_forward_hook(self._on_output)

    def remove(self) -> None:
        """Training is over: the embeddings are as they were."""
        self._hook.remove()

    @contextmanager
    def perturbed(self, pad_index: Tensor, unpad_index: Tensor) -> Iterator[None]:
        """The next pass in training, of the same batch, is of perturbed texts.

        Args:
            pad_index: [n, l] int64. unpad_index: [t] int64. Both as the encoder takes them.
        """
        assert self._embedded is not None
        assert self._embedded.grad is not None
        text_of_token = torch.div(unpad_index, pad_index.shape[1], rounding_mode="floor")
        scale = _lengths(self._embedded.detach(), pad_index) / _lengths(
            self._embedded.grad, pad_index
        ).clamp(min=_SHORTEST)
        self._perturbation = self._epsilon * self._embedded.grad * scale[text_of_token, None]
        try:
            yield
        finally:
            self._embedded = self._perturbation = None

    def _on_output(self, module: nn.Module, _: object, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        if self._perturbation is not None:
            return output + self._perturbation
        # Frozen embeddings have no gradient of their own.
        self._embedded = output if output.requires_grad else output.requires_grad_()
        self._embedded.retain_grad()
        return self._embedded


def _lengths(rows: Tensor, pad_index: Tensor) -> Tensor:
    """Of each text's tokens as one vector, [t, d] -> [n]: also on a GPU the same in every run."""
    squares = rows.square().sum(dim=1, keepdim=True)
    return pad(squares, pad_index).sum(dim=(1, 2)).sqrt()
