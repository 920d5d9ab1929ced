"""Measure what dampening does to the Fisher blocks of a fine-tuned model, and to ways to invert them.

    python -m tools.studies.fisher_conditioning --model DENSE_DIR --data SST2_DIR --output FILE.json

Takes gradients of a few matrices, and for every dampening compares saliencies w_j^2 / (2 [F^-1]_jj)
with those of exact sums and inverses in float64:

    ours         sums of outer products in float32, Cholesky in float64
    float32      the same sums, Cholesky in float32
    recursion    the paper's rank-one recursion in float32, one gradient at a time

"error" is the median over weights of the relative error; "rank" is the share of the half that is least
salient which is also chosen from the erroneous saliencies. Prints a table, and writes JSON where it is asked
to.

Needs: the host's packages (torch, transformers).
Takes: about two minutes on one thread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from obert_edge.host.pruning import prunable_weights
from obert_edge.host.pruning.fisher import BlockFisher, BlockLayout, WoodburyInverse
from obert_edge.host.pruning.gradients import GradientSampler
from obert_edge.host.pruning.solve import factor, inverse_diagonal
from tools import command_line
from tools.studies.examples import load_study


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Compare, print the table and perhaps write the JSON file."""
    parser = command_line.parser("tools.studies.fisher_conditioning", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2", help="a GLUE task, or text (default: sst2)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    dampening = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10]
    parser.add_argument("--dampening", type=float, nargs="+", default=dampening, help="(default: six values)")
    parser.add_argument("--gradients", type=int, default=64, help="number of batches (default: 64)")
    parser.add_argument("--batch-size", type=int, default=16, help="examples of a gradient (default: 16)")
    parser.add_argument("--block-size", type=int, default=32, help="weights of a block (default: 32)")
    parser.add_argument(
        "--rows", type=int, default=64, help="output channels looked at in each matrix (default: 64)"
    )
    parser.add_argument("--train-rows", type=int, help="read only the first rows of train (faster)")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    study = load_study(
        options.model,
        options.data,
        options.task,
        options.gradients,
        options.batch_size,
        limit=options.train_rows,
    )
    names, gradients, weights = sample(study.model(), study.batches, options.rows)
    layouts = [BlockLayout((len(w), w.shape[1]), options.block_size) for w in weights]
    blocks = torch.cat(
        [
            torch.stack([layout.to_blocks(g) for g in parts], dim=1)
            for layout, parts in zip(layouts, gradients)
        ]
    )
    w = torch.cat([layout.to_blocks(weight) for layout, weight in zip(layouts, weights)]).double()
    rows = [compare(blocks, w, dampening) for dampening in options.dampening]
    result = {**vars(options), "matrices": names, "rows": rows}
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")
    print(table(rows))


def sample(model: torch.nn.Module, batches: List[Any], rows: int) -> Any:
    """Names, gradients and weights of the first ``rows`` output channels of the middle layer's matrices."""
    every = list(prunable_weights(model).items())
    middle = len(every) // 12 * 6
    chosen = dict(every[middle : middle + 6])
    gradients: List[List[Tensor]] = [[] for _ in chosen]
    for parts in GradientSampler(model, batches).sample(list(chosen.values())):
        for kept, gradient in zip(gradients, parts):
            kept.append(gradient[:rows].clone())
    return list(chosen), gradients, [weight.detach()[:rows] for weight in chosen.values()]


def compare(gradients: Tensor, w: Tensor, dampening: float) -> Dict[str, Any]:
    """A row of the table for one dampening: the conditioning, and the errors of every way to invert.

    Args:
        gradients: float32 ``[blocks, m, B]``, the gradients of blocks of B weights.
        w: float64 ``[blocks, B]``, the weights.
        dampening: the lambda of F = lambda I + sum g g^T / m.
    """
    n, count, size = gradients.shape
    exact = gradients.double().transpose(1, 2) @ gradients.double() / count
    exact.diagonal(dim1=1, dim2=2).add_(dampening)
    values = torch.linalg.eigvalsh(exact)
    condition = values[:, -1] / values[:, 0].clamp_min(1e-300)
    truth = saliency(w, torch.linalg.inv(exact).diagonal(dim1=1, dim2=2))

    fisher = BlockFisher(BlockLayout((n, size), size))
    for index in range(count):
        fisher.add(gradients[:, index])
    fisher.finish()
    ours = fisher.matrix(slice(n), dampening)
    single, failed = torch.linalg.cholesky_ex(ours.float())
    single[failed != 0] = float("nan")
    recursion = WoodburyInverse(n, size, count, dampening, dtype=torch.float32)
    for index in range(count):
        recursion.add(gradients[:, index])
    found = {
        "ours": inverse_diagonal(factor(ours)),
        "float32": inverse_diagonal(single).double(),
        "recursion": recursion.inverse.diagonal(dim1=1, dim2=2).double(),
    }
    return {
        "dampening": dampening,
        "dampening_relative": dampening / float(exact.diagonal(dim1=1, dim2=2).mean() - dampening),
        "condition_median": float(condition.median()),
        "condition_max": float(condition.max()),
        "float32_not_definite": float((failed != 0).float().mean()),
        "errors": {way: errors(saliency(w, diagonal), truth) for way, diagonal in found.items()},
    }


def saliency(w: Tensor, inverse_diagonal: Tensor) -> Tensor:
    """The loss that removing a weight costs, w^2 / (2 [F^-1]_jj): equation 3 of oBERT for single weights."""
    return 0.5 * w.square() / inverse_diagonal


def errors(found: Tensor, truth: Tensor) -> Dict[str, float]:
    """The median relative error, and the part of the least salient half that is chosen in spite of it."""
    usable = torch.isfinite(found) & (truth > 0)
    half = truth.numel() // 2
    chosen, right = (values.flatten().nan_to_num(float("inf")).argsort()[:half] for values in (found, truth))
    same = len(set(chosen.tolist()) & set(right.tolist())) / half
    relative = ((found - truth).abs() / truth)[usable]
    return {"error": float(relative.median()) if len(relative) else float("nan"), "rank": same}


def table(rows: List[Dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    ways = list(rows[0]["errors"])
    head = ["lambda", "lambda / mean diagonal", "condition, median", "largest"]
    head += [f"{way}: {what}" for way in ways for what in ("error", "rank")]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [f"{row['dampening']:.0e}", f"{row['dampening_relative']:.1e}"]
        cells += [f"{row['condition_median']:.0e}", f"{row['condition_max']:.0e}"]
        for way in ways:
            cells += [f"{row['errors'][way]['error']:.0e}", f"{100 * row['errors'][way]['rank']:.2f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
