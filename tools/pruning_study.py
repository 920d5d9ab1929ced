#!/usr/bin/env python3
"""Compare one-shot pruning methods on a fine-tuned text classifier.

    tools/pruning_study.py --model DENSE_DIR --data SST2_DIR --output docs/results/pruning_study.json

Each row prunes the dense model anew, without training, and measures accuracy and loss on the dev
rows. DENSE_DIR is a model folder of `obert-edge finetune`; SST2_DIR has GLUE's train and dev
TSV files. About a minute and a half per oBERT row on two idle cores with the defaults (256
gradients, MiniLM-L6); the gradients are nearly all of it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import torch
from transformers import AutoModelForSequenceClassification

from obert_edge.pruning import Surgeon, make_criterion, prune_one_shot
from obert_edge.tasks import load_task, load_tokenizer
from obert_edge.workflow.batching import PadCollator

METHODS: Dict[str, Dict[str, Any]] = {
    "magnitude": {"criterion": "magnitude"},
    "paper": {"criterion": "obert", "solver": "paper"},
    "joint": {"criterion": "obert", "solver": "joint"},
    "joint, 4 rescorings": {"criterion": "obert", "solver": "joint", "rescorings": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--patterns", nargs="+", default=["unstructured", "4x1"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.7, 0.8])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--gradients", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--dampening", type=float, default=1e-7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    task = load_task(options.task, options.data)
    tokenizer = load_tokenizer(options.model)
    train = task.features("train", tokenizer, max_length=128)
    dev = sorted(task.features("dev", tokenizer, max_length=128), key=lambda row: len(row["input_ids"]))
    random.Random(options.seed).shuffle(train)
    dense = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    collate = PadCollator(dense.config.pad_token_id or 0)
    drawn = train[: options.gradients * options.batch_size]
    batches = [collate(drawn[i : i + options.batch_size]) for i in range(0, len(drawn), options.batch_size)]
    tests = [collate(dev[i : i + 64]) for i in range(0, len(dev), 64)]

    rows: List[Dict[str, Any]] = [{"method": "dense", "sparsity": 0.0, **measure(dense, tests)}]
    show(rows[-1])
    for pattern in options.patterns:
        for sparsity in options.sparsities:
            for method in options.methods:
                model = AutoModelForSequenceClassification.from_pretrained(options.model)
                settings = dict(METHODS[method])
                if settings["criterion"] == Surgeon.name:
                    settings.update(block_size=options.block_size, dampening=options.dampening)
                criterion = make_criterion(settings.pop("criterion"), **settings)
                started = time.perf_counter()
                report = prune_one_shot(
                    model,
                    batches,
                    sparsity=sparsity,
                    pattern=pattern,
                    criterion=criterion,
                    gradients=options.gradients,
                )
                seconds = time.perf_counter() - started
                row = {"method": method, "pattern": pattern, "sparsity": report.sparsity}
                rows.append({**row, **measure(model, tests), "seconds": seconds, "stages": report.seconds})
                show(rows[-1])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"command": sys.argv[1:], "rows": rows}
    options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")


@torch.no_grad()
def measure(model: torch.nn.Module, batches: List[Dict[str, torch.Tensor]]) -> Dict[str, float]:
    """Accuracy in percent and mean loss."""
    model.eval()
    right = loss = count = 0.0
    for batch in batches:
        outputs = model(**batch)
        labels = batch["labels"]
        right += int((outputs.logits.argmax(-1) == labels).sum())
        loss += float(outputs.loss) * len(labels)
        count += len(labels)
    return {"accuracy": 100 * right / count, "loss": loss / count}


def show(row: Dict[str, Any]) -> None:
    print(
        f"{row.get('pattern', '-'):>12} {row['sparsity']:6.1%} {row['method']:<20} "
        f"accuracy {row['accuracy']:6.2f}  loss {row['loss']:.3f}  {row.get('seconds', 0.0):5.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
