"""Rows that leave one split for another: a tenth of a single file for ``dev``, and what a user asks for."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, TypeVar

import numpy as np

from obert_edge.errors import UsageError

R = TypeVar("R")

#: Share of a single file's rows that becomes split ``dev``.
_DEV_SHARE = 0.1


def hold_out(
    splits: Dict[str, List[R]],
    *,
    source: str,
    target: str,
    count: int,
    content: Callable[[R], Any],
    seed: int = 0,
) -> Dict[str, List[R]]:
    """Move ``count`` random rows of split ``source`` to a new split ``target``.

    Rows of the same content stay together, so none leaks.

    Args:
        splits: rows by split.
        source: the split they leave.
        target: the split they make.
        count: how many of them.
        content: what is the same of two rows that must stay together.
        seed: of the choice.

    Raises:
        UsageError: there are not enough rows.
    """
    rows = splits.get(source, [])
    if not 0 < count < len(rows):
        raise UsageError(
            f"{count} rows cannot be held out of the {len(rows)} rows of split {source!r}",
            hint="hold out fewer rows",
        )
    order = np.random.default_rng(seed).permutation(len(rows))
    chosen = {content(rows[int(i)]) for i in order[:count]}
    held = [row for row in rows if content(row) in chosen]
    kept = [row for row in rows if content(row) not in chosen]
    if not kept:
        raise UsageError(
            f"every text of split {source!r} is the same; none can be held out",
            hint="check the text column, and give rows that differ",
        )
    return {**splits, source: kept, target: held}


def with_dev(
    splits: Dict[str, List[R]], content: Callable[[R], Any], *, most: int = 2**31
) -> Dict[str, List[R]]:
    """The splits, and where there is ``train`` alone, as a single file is, a random tenth of it as ``dev``.

    Args:
        splits: rows by split.
        content: see :func:`hold_out`.
        most: rows of dev at most.

    Raises:
        UsageError: there are too few rows to hold one out.
    """
    if list(splits) != ["train"]:
        return splits
    count = min(most, dev_share(len(splits["train"])))
    return hold_out(splits, source="train", target="dev", count=count, content=content)


def dev_share(count: int) -> int:
    """How many of a single file's rows become split ``dev``: a tenth, one at least.

    Raises:
        UsageError: there is one row alone.
    """
    if count < 2:
        raise UsageError(
            f"the train split has {count} row, and there is no other split: none can be held out as dev",
            hint="give more rows, or a folder with files train and dev",
        )
    return max(1, round(_DEV_SHARE * count))


def with_tune(
    splits: Dict[str, List[R]], content: Callable[[R], Any], count: int, *, seed: int = 1
) -> Dict[str, List[R]]:
    """The splits, and ``count`` rows of ``train`` as ``tune``, where there are to be any.

    Args:
        splits: rows by split.
        content: see :func:`hold_out`.
        count: rows to hold out; 0: none.
        seed: of the choice.

    Raises:
        UsageError: there are too few rows.
    """
    if not count:
        return splits
    return hold_out(splits, source="train", target="tune", count=count, content=content, seed=seed)
