"""One process or many, CPU or GPU: the same loop, by `accelerate launch` or `torchrun`."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from service.offline.progress import Progress


def start_accelerator() -> Accelerator:
    """The processes that the launcher started; on a GPU half precision, bf16 where it has it."""
    if not torch.cuda.is_available():
        return Accelerator(cpu=True, mixed_precision="no")
    # Older GPUs take bf16 too, and compute it in a roundabout way that is slower than float32.
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Accelerator(mixed_precision="bf16" if has_bf16 else "fp16")


def say_where(accelerator: Accelerator, progress: Progress, name: str) -> None:
    """On what the model learns, and in which precision."""
    gpu = accelerator.device.type == "cuda"
    device = torch.cuda.get_device_name(accelerator.device) if gpu else "the CPU"
    count = f"{accelerator.num_processes} x " if accelerator.num_processes > 1 else ""
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    progress.say(f"{name}: learns on {count}{device} in {precision}")


def end_half_precision(accelerator: Accelerator, wrapped: nn.Module) -> None:
    """From here on the model inside `wrapped` computes in float32, as it is served.

    Preparing a model for half precision changes its own `forward`, and so all that is measured of
    it or exported.
    """
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)


def is_main_process() -> bool:
    """True in the one process that speaks and publishes."""
    return bool(start_accelerator().is_main_process)


def from_main_process(make: Callable[[], str]) -> str:
    """What `make` gives in the main process, for all; the others wait and do not call it.

    Sent and not read from a file, which another node may not have.
    """
    accelerator = start_accelerator()
    content = make().encode() if accelerator.is_main_process else b""
    device = accelerator.device
    length = int(broadcast(torch.tensor([len(content)], device=device)).item())
    sent = torch.frombuffer(bytearray(content.ljust(length, b"\0")), dtype=torch.uint8)
    return bytes(broadcast(sent.to(device)).cpu().numpy()).decode()


def end_processes() -> None:
    """The processes have nothing more to tell each other."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout and masks of a step depend on nothing before it, so a run can go on anywhere."""
    torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + rank) % 2**63)
