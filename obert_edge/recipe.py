"""A whole compression run as one typed, validated file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Training:
    """How a stage trains; every stage has its own.

    Args:
        epochs: passes over the train split; 0 means no training (one shot).
        max_steps: optimiser steps, instead of ``epochs`` when given.
        learning_rate: peak of the linear decay (with warm-up and rewinds).
        final_learning_rate: where the decay ends.
        warmup: share of all steps spent rising from 0.
        batch_size: examples per step and device.
        max_length: tokens per feature; ``None``: the task's default.
        weight_decay: AdamW's, on weights only.
        precision: ``fp32`` or ``bf16`` (autocast).
        seed: of data order, dropout and new heads.
        dropout: probability in every dropout layer while training; ``None``: the checkpoint's own.
            0 suits short runs, and is several times faster on a CPU.
        freeze_embeddings: leave the embedding tables as they are (faster, and a regulariser).
        save_steps: steps between checkpoints to resume from; ``None``: ten per run.
    """

    epochs: float = 3.0
    max_steps: Optional[int] = None
    learning_rate: float = 5e-5
    final_learning_rate: float = 0.0
    warmup: float = 0.06
    batch_size: int = 32
    max_length: Optional[int] = None
    weight_decay: float = 0.01
    precision: str = "fp32"
    seed: int = 42
    dropout: Optional[float] = None
    freeze_embeddings: bool = False
    save_steps: Optional[int] = None
