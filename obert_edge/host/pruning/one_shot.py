"""Pruning in one step, without training."""

from __future__ import annotations

from itertools import islice
from typing import Any, Dict, Iterable, List, Optional, Type, Union

from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import Batch, Criterion, LossFunction, Progress, PruningReport
from obert_edge.host.pruning.layerwise import SparseGPT, Wanda
from obert_edge.host.pruning.magnitude import Magnitude
from obert_edge.host.pruning.masks import Masks, check_scope, check_sparsity
from obert_edge.host.pruning.movement import Movement, SoftMovement
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.surgeon import Surgeon

CRITERIA: Dict[str, Type[Criterion]] = {
    criterion.name: criterion for criterion in (Surgeon, Magnitude, Movement, SoftMovement, Wanda, SparseGPT)
}
"""The criteria by the names users give them."""


def make_criterion(criterion: Union[str, Criterion], **options: Any) -> Criterion:
    """A criterion from its name and options.

    Args:
        criterion: a name of :data:`CRITERIA`, or a criterion, which is returned as it is.
        options: arguments of the criterion's class, such as ``block_size``.

    Raises:
        UsageError: there is no criterion of that name, or it has no such option.
    """
    if isinstance(criterion, Criterion):
        if options:
            raise UsageError(
                f"options {sorted(options)} came with a criterion that is already made",
                hint="give the options to the criterion's own constructor",
            )
        return criterion
    if criterion not in CRITERIA:
        raise UsageError(
            f'"{criterion}" is not a pruning criterion', hint=f"use one of {', '.join(sorted(CRITERIA))}"
        )
    try:
        return CRITERIA[criterion](**options)
    except TypeError as error:
        raise UsageError(
            f"criterion {criterion} does not take {sorted(options)}: {error}",
            hint="see its class for the options",
        ) from error


def prune_one_shot(
    model: nn.Module,
    batches: Optional[Iterable[Batch]] = None,
    *,
    sparsity: float,
    pattern: Union[str, Pattern] = "4x1",
    criterion: Union[str, Criterion] = "obert",
    scope: Optional[str] = None,
    gradients: int = 256,
    masks: Optional[Masks] = None,
    loss_fn: Optional[LossFunction] = None,
    progress: Optional[Progress] = None,
    **options: Any,
) -> PruningReport:
    """Prune the encoder of ``model`` in place, in one step.

    Args:
        model: a Bert, DistilBert, Roberta or Electra model with any head.
        batches: batches with labels; the first ``gradients`` of them are used, one mini-batch
            gradient each. Fewer are used as they are. Wanda and SparseGPT run the model on them and
            need no labels; magnitude needs none at all.
        sparsity: share of the encoder's linear weights to be zero in the end, in [0, 1).
        pattern: "unstructured", "OUTxIN" or "N:M".
        criterion: a name of :data:`CRITERIA` or a :class:`Criterion`.
        scope: "global" (one threshold over all matrices), "layer" or "row", see
            :func:`obert_edge.host.pruning.masks.select`; None: the criterion's own.
        gradients: m, the number of gradients.
        masks: what is pruned already; None: the weights that are zero.
        loss_fn: ``loss_fn(model, batch)``, instead of the model's own label loss.
        progress: ``progress(stage, done, total)``.
        options: arguments for a criterion given by name, see :class:`Surgeon`.

    Raises:
        UsageError: an argument is out of range, the pattern does not fit a matrix, or the model
            has no encoder that pruning knows.
    """
    shape = Pattern.parse(pattern)
    check_sparsity(sparsity, shape)
    chosen = make_criterion(criterion, **options)
    if gradients < 1:
        raise UsageError(f"gradients is {gradients}", hint="use 1 or more, such as 256")
    held: List[Batch] = []
    if chosen.needs_batches and batches is not None:
        held = list(islice(batches, gradients))
    return chosen.prune(
        model,
        masks if masks is not None else Masks.from_weights(model),
        sparsity=sparsity,
        pattern=shape,
        scope=check_scope(scope or chosen.default_scope),
        batches=held,
        loss_fn=loss_fn,
        progress=progress,
    )
