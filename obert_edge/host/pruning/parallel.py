"""Work on spans of blocks, on as many threads as torch may use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, Sequence, TypeVar

import torch

T = TypeVar("T")


def over_spans(work: Callable[[slice], T], spans: Sequence[slice], device: torch.device) -> List[T]:
    """``[work(span) for span in spans]``, in that order.

    Batched LAPACK calls use one thread each, whatever torch is told, so on a CPU several spans are
    worked on at once, each by one thread. What ``work`` computes must not depend on other spans.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(spans) < 2:
        return [work(span) for span in spans]
    # The number of threads of an operator belongs to the thread that calls it (OpenMP): each
    # worker takes one, and this thread keeps its own.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results = list(pool.map(work, spans))
    torch.set_num_threads(threads)
    return results
