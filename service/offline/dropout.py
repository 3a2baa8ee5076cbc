"""Dropout whose draws cost a CPU little: a quarter of a 64-bit draw an element.

torch draws one number an element, by one core, and takes a tenth of a training step for it
(2 cores, MiniLM, 600 tokens a step). Anywhere but on a CPU its own is used.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_STEPS = 2**16


class Dropout(nn.Module):
    """Zeroes elements at random in training and scales the rest (Srivastava et al., 2014).

    Args:
        probability: of an element to be zeroed, to the nearest 1 / 65,536.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"dropout is a probability from 0 to 1, not {probability}")
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.probability)
        zeroed = round(self.probability * _STEPS)
        if zeroed == _STEPS:
            return values * 0
        kept = _uniform(values.shape) >= zeroed - _STEPS // 2
        return values * kept.to(values.dtype).div_(1 - self.probability)

    def extra_repr(self) -> str:
        return f"p={self.probability}"


def _uniform(shape: torch.Size) -> Tensor:
    """Whole numbers from -32,768 to 32,767, int16, each as likely, by torch's own generator."""
    count = shape.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count].view(shape)
