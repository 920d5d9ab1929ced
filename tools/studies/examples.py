"""The data of the pruning studies: a fine-tuned model, batches to take gradients of, and a dev score."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from transformers import AutoModelForSequenceClassification

from obert_edge.host.data import load_task, load_tokenizer
from obert_edge.host.stages.batching import PadCollator

Batches = List[Dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Study:
    """A fine-tuned text classifier with its data.

    Args:
        folder: the model folder.
        batches: train batches to take gradients of.
        tests: batches of all dev rows.
    """

    folder: Path
    batches: Batches
    tests: Batches

    def model(self) -> Any:
        """Read the dense model again, in evaluation mode."""
        return AutoModelForSequenceClassification.from_pretrained(self.folder).eval()

    @torch.no_grad()
    def score(self, model: torch.nn.Module) -> Dict[str, Any]:
        """Accuracy in percent, mean loss, and the dev rows that are wrong (for paired tests)."""
        model.eval()
        wrong: List[int] = []
        loss = count = 0.0
        for batch in self.tests:
            outputs = model(**batch)
            labels = batch["labels"]
            missed = (outputs.logits.argmax(-1) != labels).nonzero().flatten()
            wrong += [int(count) + int(index) for index in missed]
            loss += float(outputs.loss) * len(labels)
            count += len(labels)
        return {"accuracy": 100 - 100 * len(wrong) / count, "loss": loss / count, "wrong": wrong}


def load_study(
    model: Path,
    data: Path,
    task_name: str,
    gradients: int,
    batch_size: int,
    seed: int = 42,
    limit: Optional[int] = None,
) -> Study:
    """Read a study's data: random train batches (of the first ``limit`` rows), and the dev rows by length."""
    task = load_task(task_name, data)
    tokenizer = load_tokenizer(model)
    train = task.features("train", tokenizer, max_length=128, limit=limit)
    dev = sorted(task.features("dev", tokenizer, max_length=128), key=lambda row: len(row["input_ids"]))
    random.Random(seed).shuffle(train)
    collate = PadCollator(tokenizer.padding["pad_id"] if getattr(tokenizer, "padding", None) else 0)
    drawn = train[: gradients * batch_size]
    return Study(
        model,
        [collate(drawn[i : i + batch_size]) for i in range(0, len(drawn), batch_size)],
        [collate(dev[i : i + 64]) for i in range(0, len(dev), 64)],
    )
