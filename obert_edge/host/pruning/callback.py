"""Gradual pruning inside transformers' Trainer."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from obert_edge.errors import UsageError
from obert_edge.host.pruning.criterion import Criterion, LossFunction, PruningReport
from obert_edge.host.pruning.masks import Masks, check_sparsity, kept, prunable_weights
from obert_edge.host.pruning.one_shot import make_criterion
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.pruning.sampling import draw_batches
from obert_edge.host.pruning.schedule import LinearSchedule
from obert_edge.host.pruning.settings import Pruning
from obert_edge.host.pruning.sharding import this_process
from obert_edge.progress import Progress

MASK_FILE = "pruning_masks.safetensors"
SCORE_FILE = "pruning_scores.safetensors"
HISTORY_FILE = "pruning_history.json"

_logger = logging.getLogger(__name__)


class PruningCallback(TrainerCallback):
    """Prunes on a schedule, and keeps what is pruned at zero between pruning steps.

    Before the optimizer steps of the schedule, gradients are taken of batches drawn beside the
    Trainer's own (its sampler and all random states stay as they were), the criterion prunes and
    updates the model, and the optimizer's moments of removed weights are cleared; those of kept
    weights stay. From then on gradients of pruned weights are zeroed in the backward pass (so
    that gradient clipping and the optimizer's moments do not see them), and the masks are applied
    again after each optimizer step.

    Checkpoints carry the masks in ``pruning_masks.safetensors``; a resumed run goes on with them,
    or, without the file, with the zeros of the checkpoint. A checkpoint saved right before a
    pruning step prunes when it is resumed.

    Under ``torchrun`` each process takes its share of the gradients, and the Fisher sums are
    added up. Sharded parameters (FSDP, DeepSpeed) are not supported.

    Args:
        schedule: when to prune how much; None: only keep what is zero already, as in sparse
            transfer or quantization-aware training of a pruned model.
        criterion: a name of :data:`obert_edge.host.pruning.criteria.CRITERIA` or a :class:`Criterion`.
        pattern: "unstructured", "OUTxIN" or "N:M".
        scope: "global", "layer" or "row"; None: the criterion's own.
        gradients: m, mini-batch gradients per pruning step.
        gradient_batch_size: examples in each. It sets the scale of the gradients and so how
            much a given dampening dampens.
        loss_fn: replaces the model's own label loss. The distillation loss is not used for
            gradients, as in the paper's code.
        seed: of the choice of gradient batches.
        keep_zeros: whether weights that are zero when training begins count as pruned.
        progress: ``progress(what, done, total)`` during pruning steps.

    Attributes:
        masks: the masks, once training has begun.
        reports: one per pruning step of this process.
        history: the reports of all pruning steps as plain values, those before a resumption included.
    """

    def __init__(
        self,
        schedule: Optional[LinearSchedule] = None,
        *,
        criterion: Union[str, Criterion] = "obert",
        pattern: Union[str, Pattern] = "4x1",
        scope: Optional[str] = None,
        gradients: int = 256,
        gradient_batch_size: int = 16,
        loss_fn: Optional[LossFunction] = None,
        seed: int = 42,
        keep_zeros: bool = True,
        progress: Optional[Progress] = None,
    ) -> None:
        self.schedule = schedule
        self.criterion = make_criterion(criterion)
        self.pattern = Pattern.parse(pattern)
        self.scope = scope or self.criterion.default_scope
        Pruning.check(scope=scope, gradients=gradients, gradient_batch_size=gradient_batch_size)
        if schedule is not None:
            check_sparsity(schedule.final, self.pattern)
        self.gradients = gradients
        self.gradient_batch_size = gradient_batch_size
        self.loss_fn = loss_fn
        self.seed = seed
        self.keep_zeros = keep_zeros
        self.progress = progress
        self.masks: Optional[Masks] = None
        self.reports: List[PruningReport] = []
        self.history: List[Dict[str, Any]] = []
        self._plan: Dict[int, float] = {}
        self._hooks: List[torch.utils.hooks.RemovableHandle] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the masks and lay out the schedule in optimizer steps."""
        model: nn.Module = kwargs["model"]
        if getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
            raise UsageError(
                "pruning cannot see parameters that FSDP or DeepSpeed shards",
                hint="train with torchrun (data parallel) or in one process",
            )
        weights = prunable_weights(model)
        for name, weight in weights.items():
            self.pattern.check(name, tuple(weight.shape))
        if self.schedule is not None:
            self._plan = self._resolve(self.schedule, args, state, kwargs.get("train_dataloader"))
        self.masks = Masks.from_weights(model) if self.keep_zeros else Masks.all_kept(model)
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / MASK_FILE
        if state.global_step > 0 and saved.exists():
            self.masks = Masks.load(saved)
        history = saved.with_name(HISTORY_FILE)
        if state.global_step > 0 and history.exists():
            self.history = json.loads(history.read_text(encoding="utf-8"))
        self.masks.apply(model)
        scores = saved.with_name(SCORE_FILE)
        if state.global_step > 0 and scores.exists():
            self.criterion.restore(load_file(str(scores)))
        self._hooks += self.criterion.watch(weights)  # before gradients of pruned weights become zero
        self._attach(weights)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Prune if the schedule says so."""
        target = self._plan.get(state.global_step)
        masks = self.masks
        if target is None or masks is None or masks.sparsity >= target:
            return
        model: nn.Module = kwargs["model"]
        rank, world_size = this_process()
        batches = None
        if self.criterion.needs_batches:
            batches = draw_batches(
                kwargs["train_dataloader"],
                max(self.gradients, world_size),  # every process needs one
                batch_size=self.gradient_batch_size,
                seed=self.seed + state.global_step,
                rank=rank,
                world_size=world_size,
            )
        report = self.criterion.prune(
            model,
            masks,
            sparsity=target,
            pattern=self.pattern,
            scope=self.scope,
            batches=batches,
            loss_fn=self.loss_fn,
            progress=self.progress if rank == 0 else None,
        )
        self._synchronize(model)
        self._clear_moments(model, kwargs.get("optimizer"))
        self.reports.append(report)
        self.history.append({"step": state.global_step, **report.to_dict()})
        state.log_history.append({"step": state.global_step, "sparsity": report.sparsity})
        _logger.info("step %d: %.2f %% of the encoder pruned", state.global_step, 100 * report.sparsity)

    def steps_to_come(self, step: int) -> int:
        """How many pruning steps there are still to be, from before an optimizer step on."""
        sparsity = 0.0 if self.masks is None else self.masks.sparsity
        return sum(at >= step and target > sparsity for at, target in self._plan.items())

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set pruned weights back to exactly zero."""
        if self.masks is not None:
            self.masks.apply(kwargs["model"])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the masks into the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.masks is not None and state.is_world_process_zero and folder.is_dir():
            self.masks.save(folder / MASK_FILE)
            learned = {key: value.contiguous() for key, value in self.criterion.state().items()}
            if learned:
                save_file(learned, str(folder / SCORE_FILE))
            (folder / HISTORY_FILE).write_text(json.dumps(self.history), encoding="utf-8")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave a model without hooks, its pruned weights zero."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self.masks is not None:
            self.masks.apply(kwargs["model"])

    def _resolve(self, schedule: LinearSchedule, args: Any, state: Any, dataloader: Any) -> Dict[int, float]:
        if getattr(args, "load_best_model_at_end", False):
            raise UsageError(
                "load_best_model_at_end could bring back a checkpoint from before the last pruning step",
                hint="set load_best_model_at_end=False when pruning on a schedule",
            )
        steps_per_epoch = 0
        if schedule.unit == "epochs":
            try:
                steps_per_epoch = math.ceil(len(dataloader) / args.gradient_accumulation_steps)
            except TypeError as error:
                raise UsageError(
                    "a schedule in epochs needs a training set of known length",
                    hint='give the schedule with unit="steps"',
                ) from error
        plan = schedule.resolve(steps_per_epoch)
        if max(plan) >= state.max_steps:
            raise UsageError(
                f"the last pruning step is before optimizer step {max(plan)}, training has {state.max_steps}",
                hint="end the schedule before the end of training, so that the model can recover",
            )
        return plan

    def _attach(self, weights: Dict[str, nn.Parameter]) -> None:
        """Zero the gradients of pruned weights in the backward pass."""
        for name, weight in weights.items():
            if weight.requires_grad:

                def hook(gradient: Tensor, name: str = name) -> Tensor:
                    assert self.masks is not None
                    return kept(gradient, self._mask(name, gradient))

                self._hooks.append(weight.register_hook(hook))  # type: ignore[no-untyped-call]

    def _mask(self, name: str, like: Tensor) -> Tensor:
        assert self.masks is not None
        mask = self.masks[name]
        if mask.device != like.device:
            mask = mask.to(like.device)
            self.masks.replace(name, mask)
        return mask

    def _clear_moments(self, model: nn.Module, optimizer: Any) -> None:
        """Zero what the optimizer remembers of pruned weights (exp_avg, exp_avg_sq, momentum)."""
        if optimizer is None:
            return
        for name, weight in prunable_weights(model).items():
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.masked_fill_(~self._mask(name, value), 0.0)

    def _synchronize(self, model: nn.Module) -> None:
        """Give every process the weights and masks of the first: one bit of difference would grow."""
        if this_process()[1] == 1 or self.masks is None:
            return
        for name, weight in prunable_weights(model).items():
            torch.distributed.broadcast(weight.data, src=0)
            mask = self._mask(name, weight).to(torch.uint8)
            torch.distributed.broadcast(mask, src=0)
            self.masks.replace(name, mask)
