"""What a pruning criterion is, and the report every criterion gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Optional

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from obert_edge.errors import CheckpointError
from obert_edge.host.pruning.masks import Masks
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.progress import Progress

Batch = Mapping[str, Tensor]
"""Tensors as the model's forward takes them by name, labels included."""

LossFunction = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch to the scalar mean loss."""


@dataclass(frozen=True)
class LayerSparsity:
    """How sparse one module is."""

    name: str
    shape: List[int]
    pruned: int

    @property
    def sparsity(self) -> float:
        """Share of pruned weights."""
        return self.pruned / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class FisherFacts:
    """How the Fisher matrix compares with what dampens it, over the matrices of a model.

    Attributes:
        mean_diagonal: mean over matrices of the mean diagonal of kept weights, undampened.
        median_diagonal: the median over matrices of the same.
        dampening: the median over matrices of what was added to the diagonal.
        degenerate: share of matrices whose mean diagonal is below what was added: there the matrix is
            nearly the identity, and saliency nearly the magnitude.
    """

    mean_diagonal: float
    median_diagonal: float
    dampening: float
    degenerate: float


@dataclass(frozen=True)
class PruningReport:
    """What one pruning step did.

    Attributes:
        criterion: name of the criterion.
        pattern: the pattern, as users write it.
        target: the sparsity asked for.
        layers: per module, in the model's order.
        seconds: wall time by kind of work ("gradients", "saliency", "selection", "update").
        gradients: how many mini-batch gradients were used (per Fisher estimate).
        loss_increase: what the quadratic model of the loss expects the removal to cost, in
            units of the loss (equation 1 of the paper), or None where there is no such model.
        fisher: what the Fisher matrix said, or None where there is none.
    """

    criterion: str
    pattern: str
    target: float
    layers: List[LayerSparsity]
    seconds: Dict[str, float] = field(default_factory=dict)
    gradients: int = 0
    loss_increase: Optional[float] = None
    fisher: Optional[FisherFacts] = None

    @property
    def sparsity(self) -> float:
        """Share of pruned weights over all modules."""
        total = sum(layer.shape[0] * layer.shape[1] for layer in self.layers)
        return sum(layer.pruned for layer in self.layers) / total

    def to_dict(self) -> Dict[str, Any]:
        """The report as plain values for JSON."""
        return {**asdict(self), "sparsity": self.sparsity}

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{layer.name:<{width}}  {layer.sparsity:7.2%}" for layer in self.layers]
        lines.append(f"{'all, ' + self.criterion + ' ' + self.pattern:<{width}}  {self.sparsity:7.2%}")
        return "\n".join(lines)


class Criterion(ABC):
    """Decides in every pruning step which weights go, and what happens to the others.

    A criterion may learn from training: :meth:`watch` hooks it into the backward passes, and
    what it has learned travels in checkpoints (:meth:`state`, :meth:`restore`). To add one, write its
    class in a file of its own and its row in :data:`obert_edge.host.pruning.criteria.CRITERIA`.
    """

    name: ClassVar[str]
    default_scope: ClassVar[str] = "global"

    @property
    def needs_batches(self) -> bool:
        """Whether the next :meth:`prune` looks at data."""
        return True

    def watch(self, weights: Mapping[str, nn.Parameter]) -> List[RemovableHandle]:
        """Called when training begins, before gradients of pruned weights are set to zero.

        Returns:
            Hooks to be removed when training ends.
        """
        return []

    def state(self) -> Dict[str, Tensor]:
        """What was learned from training, for a checkpoint; empty where nothing is."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's :meth:`state`.

        Raises:
            CheckpointError: it is of another method.
        """
        if state:
            raise CheckpointError(
                f"the checkpoint has pruning scores, and method {self.name} has none",
                hint="resume with the method the run began with",
            )

    @abstractmethod
    def prune(
        self,
        model: nn.Module,
        masks: Masks,
        *,
        sparsity: float,
        pattern: Pattern,
        scope: str = "global",
        batches: Optional[Iterable[Batch]] = None,
        loss_fn: Optional[LossFunction] = None,
        progress: Optional[Progress] = None,
    ) -> PruningReport:
        """Do one pruning step: prune ``model`` and ``masks`` in place to ``sparsity``.

        Weights that ``masks`` already removes stay removed and do not move; removed weights end
        exactly zero. When the masks are as sparse already, nothing changes.

        Args:
            model: the model; modules are those of the masks.
            masks: what is pruned already.
            sparsity: share of weights to be removed in the end, over all masked modules.
            pattern: the shape of what is removed.
            scope: "global", "layer" or "row", see :func:`obert_edge.host.pruning.masks.select`.
            batches: data to take gradients or inputs from, all of them are used; they are kept in
                memory, since a criterion may need several passes over them.
            loss_fn: replaces the model's own label loss.
            progress: told about the work done.

        Raises:
            UsageError: no batches where the criterion needs them, a pattern that does not
                fit a module, or a sparsity the pattern cannot have.
        """


def layer_sparsities(masks: Masks) -> List[LayerSparsity]:
    """The state of each module, for a report."""
    return [LayerSparsity(name, list(mask.shape), int((~mask).sum())) for name, mask in masks.items()]
