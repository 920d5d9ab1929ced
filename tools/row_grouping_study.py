#!/usr/bin/env python3
"""How much 4x1 pruning gains when output units are free to choose their group.

    tools/row_grouping_study.py --model DENSE_DIR --data SST2_DIR

The units of a feed-forward layer may be permuted for free: the next matrix absorbs it. Prints the
share of the saliency (equation 3) of the first feed-forward matrices that survives, under one
threshold over all of them, when blocks are made of

    single weights   no blocks at all: the bound
    as they are      consecutive units
    greedy           units with similar saliencies, one group after the other
    exchange         from there, units and blocks chosen together: in every round each group gives one
                     unit away, and all of them are placed anew where they raise what is kept the most
                     (an assignment problem, solved exactly)

What is kept at a threshold t is the sum over blocks of relu(saliency - t), the Lagrangian of the global
selection, so that a round knows which columns a group will keep. Needs scipy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, List

import torch
from scipy.optimize import linear_sum_assignment
from study_data import load_study
from torch import Tensor

from obert_edge.pruning import Masks, Pattern, prunable_weights
from obert_edge.pruning.fisher import BlockLayout, accumulate
from obert_edge.pruning.gradients import GradientSampler
from obert_edge.pruning.operation import Method, Operation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.7, 0.8])
    parser.add_argument("--gradients", type=int, default=64)
    parser.add_argument("--train-rows", type=int, help="read only the first rows of train (faster)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    study = load_study(
        options.model, options.data, options.task, options.gradients, 16, limit=options.train_rows
    )
    found = saliencies(study.model(), study.batches)
    print("| sparsity | single weights | as they are | greedy | exchange |\n|---|---|---|---|---|")
    for sparsity in options.sparsities:
        plain = [torch.arange(len(s)).reshape(-1, options.rows) for s in found]
        greedy = [similar_units(s, options.rows) for s in found]
        best = exchange(found, greedy, sparsity, options.rounds)
        shares = [share(found, groups, sparsity) for groups in (plain, greedy, best)]
        bound = share(found, [torch.arange(len(s)).reshape(-1, 1) for s in found], sparsity)
        print(f"| {sparsity:.0%} | {bound:.3f} | " + " | ".join(f"{value:.3f}" for value in shares) + " |")


def saliencies(model: torch.nn.Module, batches: List[Dict[str, Tensor]]) -> List[Tensor]:
    """Saliency of every weight of the first feed-forward matrices, [out, in] each."""
    weights = {
        name: weight for name, weight in prunable_weights(model).items() if weight.shape[0] > weight.shape[1]
    }
    masks = Masks({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()})
    layouts = {name: BlockLayout((w.shape[0], w.shape[1]), 32) for name, w in weights.items()}
    method = Method(Pattern(), "global", "joint", "independent", 1e-7, relative=False)
    operation = Operation(weights, masks, dict.fromkeys(weights, 0), method)
    operation.score(accumulate(GradientSampler(model, batches), weights, masks, layouts))
    return [operation.scores[name] for name in weights]


def blocks(saliency: Tensor, groups: Tensor) -> Tensor:
    """Saliency of blocks, [groups, in]."""
    return saliency[groups].sum(dim=1)


def threshold(found: List[Tensor], chosen: List[Tensor], sparsity: float) -> float:
    """The saliency below which a block goes."""
    every = torch.cat([blocks(s, groups).flatten() for s, groups in zip(found, chosen)])
    return float(every.kthvalue(int(sparsity * len(every))).values)


def share(found: List[Tensor], chosen: List[Tensor], sparsity: float) -> float:
    """Share of all saliency that is kept."""
    limit = threshold(found, chosen, sparsity)
    kept = sum(float(b[b > limit].sum()) for b in (blocks(s, g) for s, g in zip(found, chosen)))
    return kept / sum(float(s.sum()) for s in found)


def similar_units(saliency: Tensor, rows: int) -> Tensor:
    """Greedy groups: the most salient unit left, with those most like it."""
    alike = torch.nn.functional.normalize(saliency.sqrt(), dim=1)
    alike = alike @ alike.T
    left = torch.ones(len(saliency), dtype=torch.bool)
    groups = []
    for unit in saliency.sum(dim=1).argsort(descending=True).tolist():
        if left[unit]:
            left[unit] = False
            near = alike[unit].masked_fill(~left, -1.0).topk(rows - 1).indices
            left[near] = False
            groups.append([unit, *near.tolist()])
    return torch.tensor(groups)


def exchange(found: List[Tensor], start: List[Tensor], sparsity: float, rounds: int) -> List[Tensor]:
    """Improve groups by exchanging one unit of each at a time."""
    generator = torch.Generator().manual_seed(0)
    chosen = [groups.clone() for groups in start]
    for _ in range(rounds):
        limit = threshold(found, chosen, sparsity)
        for s, groups in zip(found, chosen):
            member = torch.randint(groups.shape[1], (len(groups),), generator=generator)
            given = groups[torch.arange(len(groups)), member]
            rest = blocks(s, groups) - s[given]
            gain = torch.stack([(rest + s[unit] - limit).clamp_min(0).sum(dim=1) for unit in given])
            place = linear_sum_assignment(gain.numpy(), maximize=True)[1]
            groups[torch.as_tensor(place), member[torch.as_tensor(place)]] = given
    return chosen


if __name__ == "__main__":
    main()
