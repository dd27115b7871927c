"""What the processes of one run do together. A run of one process needs none of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes where `torchrun` started several, and leave them at the end.

    A process group that is there already is used, and stays.

    Yields:
        The device of this process: its own GPU where `device` is CUDA without a number.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local)
    if torch.distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
        torch.distributed.barrier()  # nobody leaves while another still talks
    finally:
        torch.distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def sum_over_ranks(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums over all processes, the same on each, in float64."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return total.tolist()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, all of them in one exchange.

    A weight that has no gradient on any process keeps none: which weights a loss uses is the same for all.
    """
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= world_size()
    for gradient, mean in zip(gradients, together.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def from_first_rank(value: float, device: torch.device) -> float:
    """Return the value of process 0, so that what follows from a clock is the same for all."""
    if world_size() == 1:
        return value
    held = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.broadcast(held, src=0)
    return float(held)
