"""What a bundle's target knows of the board it runs on: how many threads suit it, and how large its cache is.

The table is the target's (``targets/raspberry_pi/boards.py``) and travels in the manifest; the board gives
its name in its device tree. A machine that is no board of the table gets the defaults below.
"""

from __future__ import annotations

from typing import Optional, Sequence

from obert_edge.bundle.manifest import BoardFacts
from obert_edge.device.runtime import machine


def find_board(boards: Sequence[BoardFacts]) -> Optional[BoardFacts]:
    """The entry whose model this machine's name begins with, the longest of several; ``None`` without one.

    Args:
        boards: ``boards`` of a manifest.
    """
    model = machine.board_model() or ""
    fitting = [board for board in boards if model.startswith(board.model)]
    return max(fitting, key=lambda board: len(board.model), default=None)


def default_threads(board: Optional[BoardFacts]) -> int:
    """Threads to start where nobody said how many: the board's, but no more than this process may use.

    Args:
        board: what :func:`find_board` found; ``None``: as many as this process may use.
    """
    available = machine.available_threads()
    return available if board is None else min(available, board.threads)


def default_cache_bytes(board: Optional[BoardFacts]) -> int:
    """Bytes of second-level cache that each thread has, so that tiles of weights fit it; 0: no tiles."""
    return 0 if board is None else board.cache
