"""Batches for gradient estimates, drawn beside a training run without a change to what it computes."""

from __future__ import annotations

import contextlib
import random
from typing import Any, Iterator, List

import numpy as np
import torch
from torch import Tensor

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import Batch


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Put the random states of Python, numpy and torch back as they were, on every device."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - data sets and collators may use the global state
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def draw_batches(
    dataloader: Any, count: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
) -> List[Batch]:
    """Draw ``count`` shuffled batches from a data loader's data set, with its collator.

    The loader itself is not iterated: a second iterator would advance the sampler of the run
    under way (and accelerate's bookkeeping with it). The same arguments give the same batches.

    Args:
        dataloader: its ``dataset`` and ``collate_fn`` are used. A data set smaller than
            ``count * batch_size`` is gone through again in another order.
        count: batches over all processes.
        batch_size: examples in a batch.
        seed: the seed of the order of batches.
        rank: this process; it draws every ``world_size``-th batch.
        world_size: number of processes.

    Raises:
        UsageError: the data set is empty.
    """
    with preserved_random_state():
        torch.manual_seed(seed)  # for collators that mask tokens at random
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        examples = _examples(dataloader.dataset, torch.Generator().manual_seed(seed))
        batches: List[Batch] = []
        for index in range(count):
            rows = [next(examples) for _ in range(batch_size)]
            if index % world_size == rank:
                collated = dataloader.collate_fn([row() if callable(row) else row for row in rows])
                batches.append({key: value for key, value in collated.items() if isinstance(value, Tensor)})
        return batches


def _examples(dataset: Any, generator: torch.Generator) -> Iterator[Any]:
    """Endless examples; of a sized data set as functions, so that other ranks' rows are not loaded."""
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        if len(dataset) == 0:
            raise UsageError("the training set is empty", hint="give training data to take gradients of")
        while True:
            for index in torch.randperm(len(dataset), generator=generator).tolist():
                yield lambda index=index: dataset[index]
    while True:
        found = False
        for example in dataset:
            found = True
            yield example
        if not found:
            raise UsageError("the training set is empty", hint="give training data to take gradients of")
