"""What flows into linear layers, for criteria that look at each layer alone."""

from __future__ import annotations

import inspect
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import torch
from torch import Tensor, nn

from obert_edge.errors import UsageError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.pruning.criterion import Batch
from obert_edge.host.pruning.sharding import this_process
from obert_edge.progress import Progress

_LAYER = re.compile(r"(?:.*\.)?\w*layers?\.\d+\.")


class _AllSeenError(Exception):
    """Ends a forward pass early: no layer that is asked about comes after."""


def by_encoder_layer(names: Iterable[str]) -> List[List[str]]:
    """Module paths of encoder linears, those of one encoder layer together, in their order."""
    groups: Dict[str, List[str]] = {}
    for name in names:
        match = _LAYER.match(name)
        groups.setdefault(match[0] if match else name, []).append(name)
    return list(groups.values())


def input_sums(
    model: nn.Module,
    batches: Sequence[Batch],
    names: Sequence[str],
    statistic: Callable[[Tensor], Tensor],
    progress: Optional[Progress] = None,
) -> Dict[str, Tensor]:
    """Sum a statistic of the inputs of modules over all tokens of all batches.

    Tokens that the attention mask leaves out are left out. The model runs in evaluation mode and
    is left as it was. Under ``torch.distributed`` sums are over the batches of every process.

    Args:
        model: the model.
        batches: what to run, labels or not.
        names: module paths.
        statistic: from inputs float32 [tokens, in] to what is summed.
        progress: told about each batch.

    Returns:
        Per module the sum, divided by the number of tokens.

    Raises:
        UsageError: there is no batch.
    """
    _require(batches)
    modules = dict(model.named_modules())
    repeated = _repeats_layers(model)
    device = next(model.parameters()).device
    sums: Dict[str, Tensor] = {}
    tokens = torch.zeros((), device=device)
    seen: List[str] = []
    attended: Optional[Tensor] = None

    def hook(name: str) -> Callable[[nn.Module, Any], None]:
        def look(module: nn.Module, arguments: Any) -> None:
            if name in seen and not repeated:
                return  # relative positions, which go through the projections of the tokens after them
            values = arguments[0].detach().float()
            rows = values[attended] if attended is not None else values.flatten(0, -2)
            found = statistic(rows)
            sums[name] = sums[name] + found if name in sums else found
            seen.append(name)
            if name == names[0]:
                tokens.add_(len(rows))
            if len(seen) == len(names) and not repeated:
                raise _AllSeenError

        return look

    training = {module: module.training for module in model.modules()}
    handles = [modules[name].register_forward_pre_hook(hook(name)) for name in names]
    model.eval()
    try:
        for done, batch in enumerate(batches, start=1):
            on_device = {key: value.to(device) for key, value in batch.items()}
            attended = _attended(on_device)
            seen.clear()
            _run(model, on_device, device)
            if progress is not None:
                progress("inputs", done, len(batches))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    _add_over_processes([*sums.values(), tokens])
    return {name: total / tokens for name, total in sums.items()}


def _require(batches: Sequence[Batch]) -> None:
    if not batches:
        raise UsageError(
            "this method looks at the inputs of layers, and there are no batches",
            hint="give batches, or use the method magnitude",
        )


def _run(model: nn.Module, batch: Batch, device: torch.device) -> None:
    """Run the model in float32, as far as it is looked at, with what it takes of a batch."""
    accepted = inspect.signature(model.forward).parameters
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            model(**{key: value for key, value in batch.items() if key in accepted})
    except _AllSeenError:
        pass


def _attended(batch: Batch) -> Optional[Tensor]:
    """What the attention mask keeps, bool [sequences, tokens]; None: there is none."""
    mask = batch.get("attention_mask")
    return mask.bool() if mask is not None and mask.dim() == 2 else None


def _repeats_layers(model: nn.Module) -> bool:
    """Whether layers share weights, so that a module sees several inputs in one run."""
    config = getattr(model, "config", None)
    architecture = ARCHITECTURES.get(str(getattr(config, "model_type", None)))
    return architecture is not None and architecture.sharing is not None


def _add_over_processes(tensors: Iterable[Tensor]) -> None:
    if this_process()[1] > 1:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)
