#!/usr/bin/env python3
"""How much 4x1 pruning gains when output units are free to choose their group.

    tools/studies/row_grouping.py --model DENSE_DIR --data SST2_DIR

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
from torch import Tensor

from obert_edge.host.pruning import Surgeon, prunable_weights
from obert_edge.host.pruning.permutation import exchange, kept_share, similar_units
from tools.studies.examples import load_study


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
        best = exchange(found, greedy, sparsity, rounds=options.rounds)
        shares = [kept_share(found, groups, sparsity) for groups in (plain, greedy, best)]
        bound = kept_share(found, [torch.arange(len(s)).reshape(-1, 1) for s in found], sparsity)
        print(f"| {sparsity:.0%} | {bound:.3f} | " + " | ".join(f"{value:.3f}" for value in shares) + " |")


def saliencies(model: torch.nn.Module, batches: List[Dict[str, Tensor]]) -> List[Tensor]:
    """Saliency of every weight of the first feed-forward matrices, [out, in] each."""
    names = [name for name, weight in prunable_weights(model).items() if weight.shape[0] > weight.shape[1]]
    return list(Surgeon().saliencies(model, names, batches).values())


if __name__ == "__main__":
    main()
