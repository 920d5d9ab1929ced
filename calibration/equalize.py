"""``equalize``: the same float model with channels of like size.

One scale serves all channels of an activation. One channel that is 200 times
as large as the others leaves them no codes. In three places a model can be rewritten so that it computes the
same and no channel stands out; weights that are zero stay zero:

* *Values.* Probabilities add up to one, so a constant added to a value channel arrives in the attention's
  output: the middle of each channel's range moves into the bias of the output projection. A factor passes
  through as well: it moves into the projection's columns.
* *Keys and queries.* A constant added to a key channel adds the same to all scores of a query, which softmax
  takes away: the middle of each channel's range is dropped. What a query channel is divided by, the key
  channel is multiplied with.
* *Feed-forward with ReLU.* ReLU lets a positive factor pass; GELU does not.

Where queries and keys are rotated by their positions, which mixes their channels, the values alone are
rewritten. Where several heads of queries share a head of values, so do their columns of the projection.

Where scores also multiply with relative positions, as DeBERTa's do, the values alone get factors too: those
of keys and queries would have to pass through the positions' tables.

Factors are powers of two, so multiplying rounds nothing. Each splits the spread evenly between the activation
and the weights that take its factor, as cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721) and
SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, with alpha 0.5) do.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import torch
from torch import nn

from obert_edge.calibration.inputs import inputs_of
from obert_edge.host.architectures import Architecture, architecture_of

#: Factors are within 2**-20 and 2**20: a channel that needs more holds nothing, or the model is broken.
_LARGEST_EXPONENT = 20
_RELU = "relu"


@dataclass
class _Range:
    """The smallest and largest value of each channel of an activation that was watched; float64."""

    low: Optional[torch.Tensor] = None
    high: Optional[torch.Tensor] = None

    def observe(self, x: torch.Tensor, valid: Optional[torch.Tensor]) -> None:
        """Take in ``[batch, tokens, channels]``, where ``valid`` is True (None: everywhere)."""
        rows = (x if valid is None else x[valid]).detach().double().flatten(0, -2)
        low, high = rows.amin(0), rows.amax(0)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    @property
    def middle(self) -> torch.Tensor:
        """Of each channel's range."""
        assert self.low is not None and self.high is not None
        return (self.low + self.high) / 2

    @property
    def half(self) -> torch.Tensor:
        """Half the width of each channel's range."""
        assert self.low is not None and self.high is not None
        return (self.high - self.low) / 2

    @property
    def largest(self) -> torch.Tensor:
        """The largest absolute value of each channel."""
        assert self.low is not None and self.high is not None
        return torch.maximum(-self.low, self.high)


@dataclass(frozen=True)
class _Layer:
    """Paths of the linears of one encoder layer inside the model."""

    query: str
    key: str
    value: str
    attention_output: str
    intermediate: str
    output: str


@torch.no_grad()
def equalize(model: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> Dict[str, nn.Parameter]:
    """Rewrite a float model in place so that no channel of a quantized activation stands out.

    Its outputs stay the same up to the rounding of float32.

    Args:
        model: a float transformers model of one of ``obert_edge.host.architectures``.
        batches: as for ``calibrate``; at least one.

    Returns:
        The parameters that were changed, by name.

    Raises:
        CheckpointError: the architecture is not supported.
    """
    layers = _layers(model)
    relu = _activation(model) == _RELU
    architecture = _architecture(model)
    heads = getattr(model.config, architecture.fields.heads)
    # Rotations mix queries and keys in pairs, and relative positions meet each of them on its own.
    values_alone = architecture.rotary is not None or architecture.relative_positions is not None
    modules: Dict[str, nn.Linear] = {}
    for layer in layers:
        modules.update({path: model.get_submodule(path) for path in vars(layer).values()})
    watched = [layer.value for layer in layers]
    if not values_alone:  # else the linears of queries and keys may project positions as well
        watched += [path for layer in layers for path in (layer.query, layer.key)]
    inputs = [layer.output for layer in layers] if relu else []
    training = model.training
    model.eval()
    try:
        with _watching(modules, watched, inputs) as (ranges, set_valid):
            for batch in batches:
                arguments, valid = inputs_of(model, batch)
                set_valid(valid)
                model(**arguments)
    finally:
        model.train(training)
    changed: List[str] = []
    for layer in layers:
        _equalize_attention(modules, layer, ranges, heads, values_alone=values_alone)
        changed += [layer.value, layer.attention_output]
        changed += [] if values_alone else [layer.query, layer.key]
        if relu:
            _equalize_feed_forward(modules[layer.intermediate], modules[layer.output], ranges[layer.output])
            changed += [layer.intermediate, layer.output]
    return {
        f"{path}.{name}": parameter
        for path in changed
        for name, parameter in modules[path].named_parameters(recurse=False)
    }


def _equalize_attention(
    modules: Mapping[str, nn.Linear],
    layer: _Layer,
    ranges: Mapping[str, _Range],
    heads: int,
    *,
    values_alone: bool,
) -> None:
    query, key, value = modules[layer.query], modules[layer.key], modules[layer.value]
    projection = modules[layer.attention_output]
    if query is value:
        _equalize_values_of_one_linear(value, projection, ranges[layer.value])
        return
    middle = ranges[layer.value].middle
    channels = projection.in_features // heads
    shared = projection.in_features // value.out_features  # heads of queries to a head of values

    def for_each_head(values: torch.Tensor) -> torch.Tensor:
        return values.view(-1, 1, channels).expand(-1, shared, -1).reshape(-1)

    if value.bias is not None and projection.bias is not None:
        _add(projection.bias, projection.weight.double() @ for_each_head(middle))
        _add(value.bias, -middle)
        size = ranges[layer.value].half
    else:
        size = ranges[layer.value].largest
    columns = projection.weight.abs().amax(0).double().view(-1, shared, channels).amax(1).reshape(-1)
    factors = _balance(size, columns)
    _divide_rows(value, factors)
    projection.weight.mul_(for_each_head(factors).to(projection.weight))
    if values_alone:
        return
    if key.bias is not None:
        _add(key.bias, -ranges[layer.key].middle)
        size = ranges[layer.key].half
    else:
        size = ranges[layer.key].largest
    factors = _balance(ranges[layer.query].largest, size)
    _divide_rows(query, factors)
    _divide_rows(key, 1 / factors)


def _equalize_values_of_one_linear(linear: nn.Linear, projection: nn.Linear, seen: _Range) -> None:
    """The same for the last third of the outputs of a linear that makes queries and keys as well."""
    first = 2 * (linear.out_features // 3)
    factors = torch.ones_like(seen.largest)
    factors[first:] = _balance(seen.largest[first:], projection.weight.abs().amax(0).double())
    _divide_rows(linear, factors)
    projection.weight.mul_(factors[first:].to(projection.weight))


def _equalize_feed_forward(wide: nn.Linear, narrow: nn.Linear, seen: _Range) -> None:
    factors = _balance(seen.largest, narrow.weight.abs().amax(0).double())
    _divide_rows(wide, factors)
    narrow.weight.mul_(factors.to(narrow.weight))


def _balance(divided: torch.Tensor, multiplied: torch.Tensor) -> torch.Tensor:
    """For each channel the power of two that makes its two sizes most alike.

    Args:
        divided: float64 [channels], sizes of what is divided by the factor.
        multiplied: float64 [channels], sizes of what is multiplied with it.

    Returns:
        float64 [channels]. A channel that is nothing on one side is brought to the typical size on the
        other, as its own size is of no use to anybody.
    """
    both = (divided > 0) & (multiplied > 0)
    typical = (divided[both] * multiplied[both]).sqrt().median() if bool(both.any()) else divided.new_ones(())
    ideal = torch.ones_like(divided)
    ideal[both] = (divided[both] / multiplied[both]).sqrt()
    unused = (divided > 0) & (multiplied == 0)
    ideal[unused] = divided[unused] / typical
    idle = (divided == 0) & (multiplied > 0)
    ideal[idle] = typical / multiplied[idle]
    exponents = ideal.log2().round().clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return torch.pow(torch.full_like(exponents, 2), exponents)


def _divide_rows(linear: nn.Linear, factors: torch.Tensor) -> None:
    inverse = (1 / factors).to(linear.weight)
    linear.weight.mul_(inverse[:, None])
    if linear.bias is not None:
        linear.bias.mul_(inverse)


def _add(parameter: nn.Parameter, values: torch.Tensor) -> None:
    """Add in float64, and round once."""
    parameter.copy_(parameter.double() + values)


@contextlib.contextmanager
def _watching(
    modules: Mapping[str, nn.Linear], outputs: List[str], inputs: List[str]
) -> Iterator[Tuple[Dict[str, _Range], Callable[[Optional[torch.Tensor]], None]]]:
    """Watch the outputs of some linears and the inputs of others while the context lasts.

    Yields:
        What was seen, by the linears' paths; and a function that says which tokens of the next batch are
        real.
    """
    ranges = {path: _Range() for path in [*outputs, *inputs]}
    valid: List[Optional[torch.Tensor]] = [None]
    handles = []
    for path in outputs:
        seen = ranges[path]
        handles.append(
            modules[path].register_forward_hook(lambda _, __, y, seen=seen: seen.observe(y, valid[0]))
        )
    for path in inputs:
        seen = ranges[path]
        handles.append(
            modules[path].register_forward_pre_hook(lambda _, x, seen=seen: seen.observe(x[0], valid[0]))
        )

    def set_valid(mask: Optional[torch.Tensor]) -> None:
        valid[0] = mask

    try:
        yield ranges, set_valid
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: Any) -> List[_Layer]:
    """The encoder layers of a model, with or without a head."""
    architecture = _architecture(model)
    names = {name for name, _ in model.named_modules()}
    modules = architecture.modules
    prefix = f"{architecture.prefix}." if architecture.prefix in names else ""
    layers = []
    for path in dict.fromkeys(architecture.layer_paths(model.config.to_dict())):
        layer = prefix + path
        parts = ("query", "key", "value", "attention_output", "intermediate", "output")
        layers.append(_Layer(**{part: f"{layer}.{getattr(modules, part)}" for part in parts}))
    return layers


def _activation(model: Any) -> str:
    return str(getattr(model.config, _architecture(model).fields.activation))


def _architecture(model: Any) -> Architecture:
    return architecture_of({"model_type": model.config.model_type}, f"the model ({type(model).__name__})")
