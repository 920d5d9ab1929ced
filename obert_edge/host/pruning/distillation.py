"""Knowledge distillation as the paper's recipes have it (hardness and temperature)."""

from __future__ import annotations

import inspect
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.pruning.settings import Distillation


def distillation_loss(
    student: Any,
    teacher: Any,
    label_loss: Optional[Tensor],
    *,
    hardness: float,
    temperature: float,
    valid: Optional[Tensor] = None,
    multi_label: bool = False,
) -> Tensor:
    """``(1 - hardness) * label_loss + hardness * KL(teacher || student)``.

    The divergence is between softmax distributions at ``temperature`` T, times T^2 so that
    gradients keep their size whatever T is, averaged over rows (examples, or tokens where there
    is a distribution per token) and then over output keys (start and end of an answer). Where the
    model has a single output (a regression) there is no distribution: the squared difference
    takes the divergence's place. Where every class is a yes or a no of its own (multi-label) there is a
    distribution per class, and their divergences are averaged over classes, as the label loss is.

    Args:
        student: outputs of a transformers model, with ``logits`` or ``start_logits`` and
            ``end_logits``, float [..., classes].
        teacher: outputs of the teacher for the same inputs.
        label_loss: the student's own scalar loss; may be None when hardness is 1.
        hardness: share of the distillation loss, in [0, 1]. 1, the paper's, means labels are
            not used at all.
        temperature: T, above 0. The paper has 2.0 downstream and 5.5 upstream.
        valid: bool [...], the rows that count, such as the labeled tokens of a token
            classification or masked LM; None: all.
        multi_label: whether a class is independent of the others.

    Returns:
        A scalar.

    Raises:
        UsageError: an argument is out of range, or outputs do not match.
    """
    Distillation.check(hardness=hardness, temperature=temperature)
    if hardness < 1.0 and label_loss is None:
        raise UsageError(
            f"hardness {hardness} mixes in the label loss, and the student returned none",
            hint="put the labels into the inputs, or use hardness 1",
        )
    distilled: List[Tensor] = []
    if hardness > 0.0:
        for key in _logit_keys(student):
            ours, theirs = student[key], teacher[key]
            if ours.shape != theirs.shape:
                raise UsageError(
                    f"{key} of the student has shape {list(ours.shape)}, of the teacher {list(theirs.shape)}",
                    hint="use a teacher with the same task, labels and tokenizer",
                )
            distilled.append(_divergence(ours, theirs, temperature, valid, multi_label))
    total = distilled[0].new_zeros(()) if distilled else torch.zeros(())
    if distilled:
        total = total + hardness * torch.stack(distilled).mean()
    if hardness < 1.0 and label_loss is not None:
        total = total.to(label_loss.device) + (1.0 - hardness) * label_loss
    return total


class Teacher:
    """A frozen model in evaluation mode that answers on the student's device.

    It is not a module on purpose: its parameters must not be saved, counted, wrapped or trained
    with the student's.

    Args:
        model: a fine-tuned transformers model of the student's task.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval().requires_grad_(False)
        self._accepted = set(inspect.signature(model.forward).parameters)

    def __call__(self, inputs: Mapping[str, Any]) -> Any:
        """The teacher's outputs; labels and inputs it does not know are left out.

        So a BERT teacher can serve a DistilBERT student, which has no token types: a teacher
        fills them with zeros.
        """
        tensors = {
            key: value
            for key, value in inputs.items()
            if (key in self._accepted or key == "output_hidden_states") and key not in LABEL_KEYS
        }
        device = next(value.device for value in tensors.values() if isinstance(value, Tensor))
        if next(self.model.parameters()).device != device:
            self.model.to(device)
        with torch.no_grad():
            return self.model(**tensors)


LABEL_KEYS = frozenset({"labels", "start_positions", "end_positions"})


class DistillationLoss:
    """The loss of a student under a teacher; what ``Trainer.compute_loss`` returns.

    In a Trainer subclass::

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = self.distillation(model, inputs)
            return (loss, outputs) if return_outputs else loss

    and set ``trainer.model_accepts_loss_kwargs = False``: the loss is a mean over the batch, and
    only then does the Trainer divide it by the number of accumulated batches. Where these differ in size,
    ``host/stages/training.py`` weighs them.

    Args:
        teacher: the teacher, or a model to make one of.
        hardness: see :func:`distillation_loss`.
        temperature: see :func:`distillation_loss`.
        hidden_states: weight of :func:`hidden_state_loss`, which is added; 0: logits only.
        layers: see :func:`hidden_state_loss`.
        multi_label: see :func:`distillation_loss`.

    Raises:
        UsageError: hardness, temperature or weight is out of range.
    """

    def __init__(
        self,
        teacher: Any,
        *,
        hardness: float = 1.0,
        temperature: float = 2.0,
        hidden_states: float = 0.0,
        layers: Optional[Sequence[int]] = None,
        multi_label: bool = False,
    ) -> None:
        Distillation.check(hardness=hardness, temperature=temperature, hidden_states=hidden_states)
        self.teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
        self.hardness = hardness
        self.temperature = temperature
        self.hidden_states = hidden_states
        self.layers = layers
        self.multi_label = multi_label

    def __call__(self, student: nn.Module, inputs: Mapping[str, Any]) -> Tuple[Tensor, Any]:
        """The loss and the student's outputs for a batch."""
        loss, hidden, outputs = self.parts(student, inputs)
        return loss if hidden is None else loss + hidden, outputs

    def parts(self, student: nn.Module, inputs: Mapping[str, Any]) -> Tuple[Tensor, Optional[Tensor], Any]:
        """The parts of the loss, which are means over different things, and the student's outputs.

        Returns:
            The loss on labels and logits, a mean over rows (or labeled tokens); the weighted loss on hidden
            states, a mean over real tokens, or ``None`` without one; the outputs.
        """
        deep = {"output_hidden_states": True} if self.hidden_states > 0.0 else {}
        outputs = student(**inputs, **deep)
        label_loss = getattr(outputs, "loss", None)
        if self.hardness == 0.0 and not deep:
            loss = distillation_loss(outputs, outputs, label_loss, hardness=0.0, temperature=1.0)
            return loss, None, outputs
        answers = self.teacher({**inputs, **deep})
        loss = distillation_loss(
            outputs,
            answers,
            label_loss,
            hardness=self.hardness,
            temperature=self.temperature,
            valid=_valid_tokens(outputs, inputs),
            multi_label=self.multi_label,
        )
        if not deep:
            return loss, None, outputs
        difference = hidden_state_loss(
            outputs.hidden_states, answers.hidden_states, inputs.get("attention_mask"), self.layers
        )
        return loss, self.hidden_states * difference, outputs


def hidden_state_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Optional[Tensor] = None,
    layers: Optional[Sequence[int]] = None,
) -> Tensor:
    """Mean squared difference between hidden states, over real tokens, channels, then layers.

    Args:
        student: ``hidden_states`` of a transformers model: the embeddings' output, then each layer's;
            float [batch, tokens, channels].
        teacher: the same of the teacher, which may have more layers.
        mask: int or bool [batch, tokens], the ``attention_mask``; None: all tokens are real.
        layers: the teacher's layer, from 0, that each layer of the student follows; None: evenly
            spaced, the last follows the last.

    Raises:
        UsageError: widths differ, or ``layers`` does not fit.
    """
    ours, theirs = list(student)[1:], list(teacher)[1:]
    if layers is None:
        layers = [round((i + 1) * len(theirs) / len(ours)) - 1 for i in range(len(ours))]
    if len(layers) != len(ours) or not all(0 <= index < len(theirs) for index in layers):
        raise UsageError(
            f"layers {list(layers)} of {len(theirs)} cannot be followed by {len(ours)} layers",
            hint="name one layer of the teacher for each of the student",
        )
    if ours[0].shape != theirs[0].shape:
        raise UsageError(
            f"hidden states of the student have shape {list(ours[0].shape)}, of the teacher "
            f"{list(theirs[0].shape)}",
            hint="use a teacher of the student's width, or hidden_states 0",
        )
    real = None if mask is None else mask.bool()
    parts: List[Tensor] = []
    for state, index in zip(ours, layers):
        difference = (state.float() - theirs[index].float()).square().mean(dim=-1)
        parts.append(difference.mean() if real is None else difference[real].mean())
    return torch.stack(parts).mean()


def _valid_tokens(outputs: Any, inputs: Mapping[str, Any]) -> Optional[Tensor]:
    """Which rows of token-wise logits are about a real, labeled token; None for other heads."""
    logits = outputs.get("logits")
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        return None
    labels = inputs.get("labels")
    if isinstance(labels, Tensor) and labels.shape == logits.shape[:2] and bool((labels != -100).any()):
        return labels != -100
    mask = inputs.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.shape == logits.shape[:2] else None


def _divergence(
    student: Tensor, teacher: Tensor, temperature: float, valid: Optional[Tensor], multi_label: bool = False
) -> Tensor:
    if multi_label:
        return (
            _binary_divergence(student.float() / temperature, teacher.float() / temperature) * temperature**2
        )
    if student.shape[-1] == 1:
        difference = (student.float() - teacher.float()).square().squeeze(-1)
        return difference.mean() if valid is None else difference[valid].mean()
    if valid is not None:
        student, teacher = student[valid], teacher[valid]
    ours = nn.functional.log_softmax(student.float() / temperature, dim=-1)
    theirs = nn.functional.log_softmax(teacher.float() / temperature, dim=-1)
    rows = student.numel() // student.shape[-1]
    divergence = nn.functional.kl_div(ours, theirs, reduction="sum", log_target=True)
    return divergence * temperature**2 / rows


def _binary_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of one Bernoulli distribution per logit, averaged."""
    likely = torch.sigmoid(teacher)
    cross = nn.functional.binary_cross_entropy_with_logits(student, likely)
    return cross - nn.functional.binary_cross_entropy_with_logits(teacher, likely)


def _logit_keys(outputs: Any) -> List[str]:
    keys = [key for key in ("logits", "start_logits", "end_logits") if key in outputs]
    if not keys:
        raise UsageError(
            f"the student's outputs have no logits, they have {sorted(outputs)}",
            hint="distil a model with a task head",
        )
    return keys
