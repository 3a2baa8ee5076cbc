"""AdamW as encoders are trained with: groups by layer and kind, warm-up, linear decay."""

from collections.abc import Iterable

import torch
from torch import nn

NO_DECAY = ("bias", "norm.weight")


def adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    fused: bool = True,
) -> torch.optim.AdamW:
    """An optimizer of the parameters that are not frozen.

    Norms and biases do not decay (Devlin et al., 2019). With `layer_decay` below 1 each block
    learns that much slower than the one above it, the embeddings slowest (Howard and Ruder, 2018,
    arXiv:1801.06146).
    """
    blocks = 1 + max((_block_of(name) for name, _ in model.named_parameters()), default=-1)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = _depth_below_head(name, blocks)
            groups.setdefault((depth, name.endswith(NO_DECAY)), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": learning_rate * layer_decay**depth,
                "peak": learning_rate * layer_decay**depth,
                "weight_decay": 0.0 if undecayed else weight_decay,
            }
            for (depth, undecayed), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=learning_rate,
        fused=fused,
    )


def warmup_then_decay(step: int, steps: int, warmup_fraction: float) -> float:
    """The share of the peak rate at `step` of `steps`: up in a line, down to zero in a line."""
    warmup_steps = max(1, round(warmup_fraction * steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to `factor` of its peak: the rate depends on nothing but the step."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def freeze(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        module.requires_grad_(False)


def _block_of(name: str) -> int:
    """The number of the encoder's block that a parameter is of; -1 if of none."""
    _, found, rest = name.partition("encoder.blocks.")
    return int(rest.partition(".")[0]) if found else -1


def _depth_below_head(name: str, blocks: int) -> int:
    """0 for the head, 1 for the last block, ..., blocks + 1 for the embeddings."""
    if "encoder.embeddings." in name:
        return blocks + 1
    block = _block_of(name)
    return 0 if block < 0 else blocks - block
