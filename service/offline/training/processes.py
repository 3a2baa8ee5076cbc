"""One process or many, CPU or GPU: the same loop, by `accelerate launch` or `torchrun`."""

import torch
from accelerate import Accelerator


def start_accelerator() -> Accelerator:
    """The processes that the launcher started; on a GPU half precision, bf16 where it has it."""
    if not torch.cuda.is_available():
        return Accelerator(cpu=True, mixed_precision="no")
    return Accelerator(mixed_precision="bf16" if torch.cuda.is_bf16_supported() else "fp16")


def is_main_process() -> bool:
    """True in the one process that speaks and publishes."""
    return bool(start_accelerator().is_main_process)


def end_processes() -> None:
    """The processes have nothing more to tell each other."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout and masks of a step depend on nothing before it, so a run can go on anywhere."""
    torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + rank) % 2**63)
