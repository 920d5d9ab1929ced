"""The table of pruning criteria, with the options of each. Nothing here imports torch.

A criterion is one file and one row here: what ``method`` may be in a recipe and on the command line, the
help of both, and :func:`~obert_edge.host.pruning.one_shot.make_criterion` come from the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Dict, NamedTuple, Optional, Type

from obert_edge.host.options import Settings, option


@dataclass(frozen=True)
class SurgeonOptions(Settings):
    """Options of the method ``obert``; notation as in the paper (Kurtic et al. 2022, arXiv 2203.07259)."""

    heading: ClassVar[str] = "Pruning with the method obert"

    block_size: int = option(
        32,
        minimum=1,
        help="B, the weights in a block of the Fisher matrix, a multiple of the pattern's IN (or M); costs "
        "4 B bytes of memory and a time proportional to B for each weight and gradient. A block larger than "
        "its row (in the layout flat, its matrix) counts as one of that size. The paper has 50 for "
        "single weights, its code 32 for 1x4.",
    )
    dampening: float = option(
        1e-7, above=0, help="Lambda of equation 2, which is added to the diagonal of the Fisher matrix."
    )
    relative_dampening: bool = option(
        False,
        help="Multiply the dampening by the mean diagonal of each matrix's own Fisher matrix, so that it "
        "does not depend on the scale of the gradients (their batch size).",
    )
    layout: str = option(
        "row",
        choices=("row", "flat"),
        help="Fisher blocks of consecutive inputs of one output unit, or of the flattened matrix as in the "
        "paper (section 3.3).",
    )
    solver: str = option(
        "joint",
        choices=("joint", "paper"),
        help="How kept weights move: the exact optimum for all weights removed from a Fisher block, or each "
        "group as if it were removed alone (section 3.2.1).",
    )
    selection: str = option(
        "independent",
        choices=("independent", "greedy"),
        help="What a group's saliency takes into account: the group alone (equation 3), or the groups that "
        "leave its Fisher block before it.",
    )
    rescorings: int = option(
        1,
        minimum=1,
        help="How often saliencies are computed from one Fisher matrix; each time an equal part of a pruning "
        "step's weights goes.",
    )
    recomputations: int = option(
        1,
        minimum=1,
        help="Pruning steps that each one of the schedule is cut into, every one with gradients and a Fisher "
        "matrix of its own.",
    )
    memory_budget: Optional[int] = option(
        None,
        minimum=1,
        absent="half of what is free",
        example=8000000000,
        help="Bytes that Fisher blocks, waiting gradients and saliencies may take beside the model; with "
        "less than they need, matrices are taken in several passes over the gradients; with less than one "
        "of them needs, pruning is refused.",
    )


@dataclass(frozen=True)
class SoftMovementOptions(Settings):
    """Options of the method ``soft-movement``."""

    heading: ClassVar[str] = "Pruning with the method soft-movement"

    score_learning_rate: float = option(1e-2, above=0, help="Learning rate of the scores.")
    score_penalty: float = option(
        1e-6, minimum=0, help="Weight in the loss of the sum of sigmoid(S) over the scores S of all weights."
    )


@dataclass(frozen=True)
class SparseGPTOptions(Settings):
    """Options of the method ``sparsegpt``."""

    heading: ClassVar[str] = "Pruning with the method sparsegpt"

    hessian_dampening: float = option(
        0.01, above=0, help="Added to the diagonal of the inputs' Hessian, relative to its mean."
    )


@dataclass(frozen=True)
class CriterionOptions(SurgeonOptions, SoftMovementOptions, SparseGPTOptions):
    """The options of all criteria side by side, as a recipe and the command line have them."""


class CriterionRow(NamedTuple):
    """One criterion.

    Attributes:
        home: ``module:class``, the module in this package.
        help: which weights it removes, for the command line and the reference.
        options: what its constructor takes; None: nothing.
        needs_labels: whether it looks at the loss, and so at labels, when it prunes in one shot.
        needs_batches: whether it looks at anything but weights.
    """

    home: str
    help: str
    options: Optional[Type[Settings]] = None
    needs_labels: bool = True
    needs_batches: bool = True


#: By the names that users give.
CRITERIA: Dict[str, CriterionRow] = {
    "obert": CriterionRow(
        "surgeon:Surgeon", "least rise of the loss by the Fisher matrix (equation 3)", SurgeonOptions
    ),
    "magnitude": CriterionRow(
        "magnitude:Magnitude", "smallest weights", needs_labels=False, needs_batches=False
    ),
    "movement": CriterionRow("movement:Movement", "weights that training moves toward zero"),
    "soft-movement": CriterionRow(
        "soft_movement:SoftMovement", "lowest trained scores; weights may come back", SoftMovementOptions
    ),
    "wanda": CriterionRow("wanda:Wanda", "smallest products of weight and input norm", needs_labels=False),
    "sparsegpt": CriterionRow(
        "sparsegpt:SparseGPT",
        "least change of each layer's output, column by column",
        SparseGPTOptions,
        needs_labels=False,
    ),
}


def options_of(method: str, settings: CriterionOptions) -> Dict[str, Any]:
    """The options of one criterion, by name, among settings that have those of all."""
    options = CRITERIA[method].options
    return {} if options is None else dict(vars(settings.narrow(options)))


def owners() -> Dict[str, str]:
    """The method that each option of one method alone belongs to."""
    rows = {method: row.options for method, row in CRITERIA.items() if row.options is not None}
    own = {one.name: method for method, options in rows.items() for one in options.options()}
    # Of the pruning itself, and yet of one method: only oBERT's Fisher blocks gain by it.
    return {**own, "channel_permutation": "obert"}
