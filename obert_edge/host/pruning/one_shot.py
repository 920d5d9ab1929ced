"""Pruning in one step, without training."""

from __future__ import annotations

import importlib
from itertools import islice
from typing import Any, Iterable, List, Optional, Type, Union, cast

from torch import nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criteria import CRITERIA
from obert_edge.host.pruning.criterion import Batch, Criterion, LossFunction, PruningReport
from obert_edge.host.pruning.masks import Masks, check_sparsity
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.settings import Pruning
from obert_edge.progress import Progress


def make_criterion(criterion: Union[str, Criterion], **options: Any) -> Criterion:
    """A criterion from its name and options.

    Args:
        criterion: a name of :data:`~obert_edge.host.pruning.criteria.CRITERIA`, or a criterion, which is
            returned as it is.
        options: those of the criterion's row, such as ``block_size``.

    Raises:
        UsageError: there is no criterion of that name, it has no such option, or a value is out of range.
    """
    if isinstance(criterion, Criterion):
        if options:
            raise UsageError(
                f"options {sorted(options)} came with a criterion that is already made",
                hint="give the options to the criterion's own constructor",
            )
        return criterion
    Pruning.check(method=criterion)
    row = CRITERIA[criterion]
    known = [] if row.options is None else [one.name for one in row.options.options()]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(
            f"method {criterion} has no option {unknown[0]}",
            hint=f"its options are: {', '.join(known) or 'none'}",
        )
    module, _, name = row.home.partition(":")
    kind = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return cast(Type[Criterion], kind)(**options)


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
        model: a model of one of ``obert_edge.host.architectures`` with any head.
        batches: batches with labels; the first ``gradients`` of them are used, one mini-batch
            gradient each. Fewer are used as they are. Wanda and SparseGPT run the model on them and
            need no labels; magnitude needs none at all.
        sparsity: share of the encoder's linear weights to be zero in the end, in [0, 1).
        pattern: "unstructured", "OUTxIN" or "N:M".
        criterion: a name of :data:`~obert_edge.host.pruning.criteria.CRITERIA` or a :class:`Criterion`.
        scope: "global" (one threshold over all matrices), "layer" or "row", see
            :func:`obert_edge.host.pruning.masks.select`; None: the criterion's own.
        gradients: m, the number of gradients.
        masks: what is pruned already; None: the weights that are zero.
        loss_fn: ``loss_fn(model, batch)``, instead of the model's own label loss.
        progress: ``progress(what, done, total)``.
        options: arguments for a criterion given by name, see :class:`Surgeon`.

    Raises:
        UsageError: an argument is out of range, the pattern does not fit a matrix, or the model
            has no encoder that pruning knows.
    """
    shape = Pattern.parse(pattern)
    check_sparsity(sparsity, shape)
    chosen = make_criterion(criterion, **options)
    Pruning.check(gradients=gradients, scope=scope)
    held: List[Batch] = []
    if chosen.needs_batches and batches is not None:
        held = list(islice(batches, gradients))
    return chosen.prune(
        model,
        masks if masks is not None else Masks.from_weights(model),
        sparsity=sparsity,
        pattern=shape,
        scope=scope or chosen.default_scope,
        batches=held,
        loss_fn=loss_fn,
        progress=progress,
    )
