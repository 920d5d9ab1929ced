"""Tables of the angles by which rotary positions turn queries and keys."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def rotation_tables(base: float, head_dim: int, positions: int) -> Tuple[Floats, Floats]:
    """Cosines and sines, float32 [positions, head_dim / 2] each.

    The angles are float32, as transformers computes them (docs/reference/numerics.md, Rotation and product).

    Args:
        base: of the frequencies, ``rope_theta``.
        head_dim: channels of a head.
        positions: rows.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / np.float64(base) ** exponents.astype(np.float64)).astype(np.float32)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    wide = angles.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)
