"""Measure how much 4x1 pruning gains when output channels are free to choose their group.

    python -m tools.studies.row_grouping --model DENSE_DIR --data SST2_DIR

The channels of a feed-forward layer may be permuted for free: the next matrix absorbs it. Prints the share of
the saliency (equation 3) of the first feed-forward matrices that survives, under one threshold over all of
them, when blocks are made of

    single weights   no blocks at all: the bound
    as they are      consecutive channels
    greedy           channels with similar saliencies, one group after the other
    exchange         from there, channels and blocks chosen together: in every round each group gives one
                     channel away, and all of them are placed anew where they raise what is kept the most
                     (an assignment problem, solved exactly)

What is kept at a threshold t is the sum over blocks of relu(saliency - t), the Lagrangian of the global
selection, so that a round knows which columns a group will keep.

Needs: the host's packages (torch, transformers, scipy).
Takes: about five minutes on one thread.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor

from obert_edge.host.pruning import Surgeon, prunable_weights
from obert_edge.host.pruning.permutation import exchange, kept_share, similar_units
from tools import command_line
from tools.studies.examples import load_study


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Compare, and print the table."""
    parser = command_line.parser("tools.studies.row_grouping", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the fine-tuned dense model")
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's TSV files")
    parser.add_argument("--task", default="sst2", help="a GLUE task, or text (default: sst2)")
    parser.add_argument("--rows", type=int, default=4, help="output channels of a block (default: 4)")
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.7, 0.8], help="(default: 0.7 0.8)")
    parser.add_argument(
        "--gradients", type=int, default=64, help="batches of 16 for the Fisher (default: 64)"
    )
    parser.add_argument("--train-rows", type=int, help="read only the first rows of train (faster)")
    parser.add_argument("--rounds", type=int, default=30, help="of exchanges (default: 30)")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    options = parser.parse_args(arguments)
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
    """The saliency of every weight of the first feed-forward matrices, float32 ``[out, in]`` each."""
    names = [name for name, weight in prunable_weights(model).items() if weight.shape[0] > weight.shape[1]]
    return list(Surgeon().saliencies(model, names, batches).values())


if __name__ == "__main__":
    sys.exit(command_line.run(main))
