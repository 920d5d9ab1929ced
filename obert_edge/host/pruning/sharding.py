"""Data-parallel pruning: every process owns some of the matrices, with their Fisher blocks.

Each process takes gradients of its own batches. A matrix's gradients go to its owner, which alone
holds its Fisher blocks, computes its saliencies and updates it; saliencies and new weights go to
everyone. Without ``torch.distributed`` the one process owns everything, and nothing is sent.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

import torch
from torch import Tensor, distributed


def this_process() -> Tuple[int, int]:
    """Rank and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def assign_owners(sizes: Mapping[str, int], processes: int) -> Dict[str, int]:
    """Who owns what: the largest first, each to the process that has least; by name a rank."""
    load = [0] * processes
    owners: Dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):  # stable: equal sizes in their order
        rank = load.index(min(load))
        owners[name] = rank
        load[rank] += sizes[name]
    return {name: owners[name] for name in sizes}


def send_to_owner(gradient: Tensor, owner: int, present: List[bool]) -> List[Tensor]:
    """Collect one matrix's gradients from every process at its owner.

    Args:
        gradient: this process's; what it holds does not matter where ``present`` is False.
        owner: rank of the owner.
        present: by rank, whether it has a gradient at all in this round.

    Returns:
        At the owner the gradients of those present, elsewhere nothing.
    """
    rank, processes = this_process()
    if processes == 1:
        return [gradient]
    received = [torch.empty_like(gradient) for _ in range(processes)] if rank == owner else None
    distributed.gather(gradient.contiguous(), received, dst=owner)
    return [one for one, there in zip(received or [], present) if there]


def send_to_all(tensor: Tensor, owner: int) -> None:
    """Overwrite ``tensor`` with the owner's."""
    if this_process()[1] > 1:
        distributed.broadcast(tensor, src=owner)


def lowest(value: int, device: torch.device) -> int:
    """The lowest of every process's ``value``."""
    return min(everyones(value, device))


def everyones(value: int, device: torch.device) -> List[int]:
    """Every process's ``value``, by rank."""
    rank, processes = this_process()
    values = torch.zeros(processes, dtype=torch.int64, device=device)
    values[rank] = value
    if processes > 1:
        distributed.all_reduce(values)
    return [int(one) for one in values]


def total(value: float, device: torch.device) -> float:
    """The sum of every process's ``value``, the same for all."""
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    if this_process()[1] > 1:
        distributed.all_reduce(summed)
    return float(summed)


def average(tensor: Tensor) -> None:
    """Replace ``tensor`` by its mean over all processes."""
    processes = this_process()[1]
    if processes > 1:
        distributed.all_reduce(tensor)
        tensor /= processes
