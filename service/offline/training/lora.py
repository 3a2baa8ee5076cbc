"""LoRA: a large layer stays as it is and learns a small correction beside it, merged at the end."""

import torch
from torch import Tensor, nn

from service.offline.encoder import Encoder, SelfAttention

PROJECTIONS = ("query", "key", "value", "output")


class LoraLinear(nn.Module):
    """`x W + b + x A B * alpha / rank` with only A and B trained (Hu et al., 2021,
    arXiv:2106.09685).

    B begins as zero, so that training starts from the layer as it was.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.scale = alpha / rank

    def forward(self, hidden: Tensor) -> Tensor:
        base: Tensor = self.linear(hidden)
        return base + (hidden @ self.down.T) @ self.up.T * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        self.linear.weight += self.up @ self.down * self.scale
        return self.linear.requires_grad_(True)


def add_lora(encoder: Encoder, rank: int, alpha: float) -> None:
    """Freeze the encoder and let the projections of its attention learn by LoRA, in place."""
    encoder.requires_grad_(False)
    for attention in _attentions(encoder):
        for name in PROJECTIONS:
            setattr(attention, name, LoraLinear(getattr(attention, name), rank, alpha))


def merge_lora(encoder: Encoder) -> None:
    """Undo `add_lora` and keep what was learned."""
    for attention in _attentions(encoder):
        for name in PROJECTIONS:
            layer = getattr(attention, name)
            if isinstance(layer, LoraLinear):
                setattr(attention, name, layer.merged())
    encoder.requires_grad_(True)


def _attentions(encoder: Encoder) -> list[SelfAttention]:
    return [module for module in encoder.modules() if isinstance(module, SelfAttention)]
