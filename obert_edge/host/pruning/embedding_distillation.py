"""Distillation of embeddings: the student's vector of a text follows the teacher's; no labels."""

from __future__ import annotations

import inspect
from typing import Any, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.distillation import Teacher, hidden_state_loss
from obert_edge.host.pruning.output_gradients import OutputReader
from obert_edge.host.pruning.settings import Distillation


def embedding_loss(student: Tensor, teacher: Tensor, similarities: float = 1.0) -> Tensor:
    """``1/2 |s - t|^2`` in a mean over texts, and the squared difference of similarities in one over pairs.

    Vectors of length 1 have ``1/2 |s - t|^2 = 1 - cos(s, t)``, and similarities that are cosines. Others are
    divided by one number, the root of the teacher's mean squared length, so that the loss has no unit.

    Args:
        student: float [texts, channels].
        teacher: the same of the teacher.
        similarities: weight of the second part: between all pairs of different texts of the batch,
            ``(s_i^T s_j - t_i^T t_j)^2``.

    Returns:
        A scalar.

    Raises:
        UsageError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise UsageError(
            f"embeddings of the student have shape {list(student.shape)}, of the teacher "
            f"{list(teacher.shape)}",
            hint="use a teacher whose embeddings are as wide",
        )
    size = teacher.float().square().sum(dim=1).mean().sqrt().clamp_min(1e-12)
    ours, theirs = student.float() / size, teacher.float() / size
    loss = 0.5 * (ours - theirs).square().sum(dim=1).mean()
    if similarities > 0.0 and len(ours) > 1:
        difference = (ours @ ours.T - theirs @ theirs.T).square()
        others = difference.sum() - difference.diagonal().sum()
        loss = loss + similarities * others / (len(ours) * (len(ours) - 1))
    return loss


class EmbeddingDistillation:
    """The loss of an embedder under a teacher; takes the place of :class:`DistillationLoss`.

    Args:
        teacher: the teacher's encoder, or a :class:`Teacher` of it.
        read: the student's embeddings, as they are compared, from its outputs and the batch.
        read_teacher: the teacher's; default: ``read``.
        similarities: see :func:`embedding_loss`.
        hidden_states: weight of :func:`hidden_state_loss`, which is added; 0: embeddings alone.
        layers: see :func:`hidden_state_loss`.

    Raises:
        UsageError: a weight is out of range.
    """

    def __init__(
        self,
        teacher: Any,
        read: OutputReader,
        *,
        read_teacher: Optional[OutputReader] = None,
        similarities: float = 1.0,
        hidden_states: float = 0.0,
        layers: Optional[Sequence[int]] = None,
    ) -> None:
        Distillation.check(similarities=similarities, hidden_states=hidden_states)
        self.teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
        self.read = read
        self.read_teacher = read_teacher or read
        self.similarities = similarities
        self.hidden_states = hidden_states
        self.layers = layers

    def __call__(self, student: nn.Module, inputs: Mapping[str, Any]) -> Tuple[Tensor, Any]:
        """The loss and the student's outputs for a batch."""
        loss, hidden, outputs = self.parts(student, inputs)
        return loss if hidden is None else loss + hidden, outputs

    def parts(self, student: nn.Module, inputs: Mapping[str, Any]) -> Tuple[Tensor, Optional[Tensor], Any]:
        """The loss on embeddings, the weighted one on hidden states or ``None``, and the outputs."""
        deep = {"output_hidden_states": True} if self.hidden_states > 0.0 else {}
        accepted = inspect.signature(student.forward).parameters
        outputs = student(**{key: value for key, value in inputs.items() if key in accepted}, **deep)
        answers = self.teacher({**inputs, **deep})
        with torch.no_grad():
            theirs = self.read_teacher(answers, inputs)
        loss = embedding_loss(self.read(outputs, inputs), theirs, self.similarities)
        if not deep:
            return loss, None, outputs
        difference = hidden_state_loss(
            outputs.hidden_states, answers.hidden_states, inputs.get("attention_mask"), self.layers
        )
        return loss, self.hidden_states * difference, outputs
