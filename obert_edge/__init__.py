"""obert-edge: from a Hugging Face checkpoint to a measured speed-up on a small CPU."""

from __future__ import annotations

__version__ = "0.1.0"
