"""``quantize_model``: a transformers encoder becomes its fake-quantized twin, in place."""

from __future__ import annotations

import collections
from typing import Any, Collection, Dict, List, Optional, Set

from torch import nn

from obert_edge.bundle.program import RowFormat
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import Architecture, architecture_of
from obert_edge.host.architectures.base import Decoder
from obert_edge.host.checkpoints.quantization_format import (
    ACTIVATIONS,
    EMBEDDINGS,
    MIXED,
    OPERANDS,
    input_quantizer,
    operand_quantizer,
)
from obert_edge.host.quantization.attention import NAME as ATTENTION
from obert_edge.host.quantization.attention import AttentionQuantizers
from obert_edge.host.quantization.biased_attention import BiasedSelfAttention
from obert_edge.host.quantization.disentangled_attention import DisentangledSelfAttention
from obert_edge.host.quantization.joined_decoder import JoinedDecoder
from obert_edge.host.quantization.modules import (
    MODES,
    ActivationQuantizer,
    QuantEmbedding,
    QuantLinear,
    quantized_modules,
)
from obert_edge.host.quantization.observers import MovingAverageObserver
from obert_edge.host.quantization.polynomials import swap_activations

#: Half the bytes of the default: two values of four bits in a byte (docs/reference/numerics.md).
INT4 = RowFormat.INT4.name.lower()


def quantize_model(model: Any, activations: str = "static", embeddings: str = "int8") -> Any:
    """Swap every linear, embedding and self-attention of ``model`` for its INT8 twin, in place.

    Parameters stay the same objects under the same names (tied weights stay tied), so an optimizer
    made before or after works, and ``state_dict`` gains only the quantizers' buffers. The observers
    start in mode ``collecting``: ranges follow the batches seen in training mode.

    Args:
        model: a transformers model of one of ``obert_edge.host.architectures``, with or without a head.
        activations: ``static``: a fixed scale per quantizer; ``dynamic``: inputs of linears get a scale
            per token as they come (queries, keys and values stay static).
        embeddings: ``int8``, or ``int4`` for the word embeddings (positions and types stay INT8).

    Returns:
        ``model``.

    Raises:
        UsageError: ``activations`` or ``embeddings`` is something else, or the model is quantized
            already in the other way.
        CheckpointError: the architecture is not supported.
    """
    check_options(activations, embeddings)
    if is_quantized(model):
        asked = f"{activations} activations and {embeddings} embeddings"
        found = f"{activations_of(model)} activations and {embeddings_of(model)} embeddings"
        if found != asked:
            raise UsageError(
                f"the model is already quantized with {found}",
                hint=f"start again from the float model to get {asked}",
            )
        return model
    architecture = _supported_architecture(model)
    model.float()
    shared = _insert_attention_quantizers(model, architecture, activations == "dynamic")
    _join_decoder(model, architecture)
    _swap_layers(model, activations == "dynamic", shared, _float_modules(model, architecture))
    swap_activations(model)
    model.get_input_embeddings().int4 = embeddings == INT4
    if architecture.relative_bias is None and architecture.relative_positions is None:
        model.set_attn_implementation(ATTENTION)
    for name, quantizer in quantizers(model).items():
        quantizer.name = name
    if architecture.sharing is not None:
        _count_uses(model, architecture)
    return model


def _count_uses(model: Any, architecture: Architecture) -> None:
    """Tell the quantizers of layers that share weights how often a batch passes them."""
    for path, uses in collections.Counter(architecture.layer_paths(model.config.to_dict())).items():
        for name, quantizer in quantizers(model).items():
            if f"{path}." in name and isinstance(quantizer.observer, MovingAverageObserver):
                quantizer.observer.uses = uses


def check_options(activations: str, embeddings: str) -> None:
    """Check what :func:`quantize_model` is told.

    Raises:
        UsageError: there is no such choice.
    """
    if activations not in ACTIVATIONS:
        raise UsageError(
            f"activations is {activations!r}; expected one of {', '.join(ACTIVATIONS)}",
            hint="choose static (fastest) or dynamic (needs the fewest calibration texts)",
        )
    if embeddings not in EMBEDDINGS:
        raise UsageError(
            f"embeddings is {embeddings!r}; expected one of {', '.join(EMBEDDINGS)}",
            hint="choose int8 (nearly exact) or int4 (half the bytes)",
        )


def is_quantized(model: nn.Module) -> bool:
    """Whether :func:`quantize_model` was applied to ``model``."""
    return any(True for _ in quantized_modules(model))


def activations_of(model: nn.Module) -> str:
    """``static``, ``dynamic`` or ``mixed``: how the inputs of a quantized model's linears are quantized."""
    found = {module.input.dynamic for module in model.modules() if isinstance(module, QuantLinear)}
    return MIXED if len(found) == 2 else ACTIVATIONS[found == {True}]


def input_quantizers(model: nn.Module) -> Dict[str, ActivationQuantizer]:
    """Those of :func:`quantizers` that belong to inputs of linears."""
    return {
        input_quantizer(name): module.input
        for name, module in model.named_modules()
        if isinstance(module, QuantLinear)
    }


def scale_per_token(model: nn.Module, names: Collection[str]) -> None:
    """Make quantizers of a static model's linears find a scale per token: the activations become ``mixed``.

    Args:
        model: of :func:`quantize_model` with static activations.
        names: of :func:`input_quantizers`. Linears that read one tensor share a quantizer, so that the name
            of one is enough.
    """
    inputs = input_quantizers(model)
    for name in names:
        inputs[name].dynamic = True


def embeddings_of(model: nn.Module) -> str:
    """``int8`` or ``int4``: how the word embeddings of a quantized model are quantized."""
    int4 = any(isinstance(module, QuantEmbedding) and module.int4 for module in model.modules())
    return INT4 if int4 else EMBEDDINGS[0]


def quantizers(model: nn.Module) -> Dict[str, ActivationQuantizer]:
    """Every place where an activation becomes 8 bit, by its name in ``quantization.json``.

    ``<linear>:input`` for every linear (query, key and value of a layer share one quantizer) and
    ``<self-attention>:query``, ``:key``, ``:value``; paths are ``model.named_modules()``'s.
    """
    found: Dict[str, ActivationQuantizer] = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            found[input_quantizer(name)] = module.input
        elif isinstance(getattr(module, "quantizers", None), AttentionQuantizers):
            for operand in OPERANDS:
                found[operand_quantizer(name, operand)] = getattr(module.quantizers, operand)
    return found


def set_observers(model: nn.Module, mode: str) -> None:
    """Set what every quantizer does.

    Args:
        model: a quantized model.
        mode: ``collecting``: observe (in training mode) and quantize; ``frozen``: quantize with the
            ranges it has; ``calibrating``: observe, quantize weights only; ``float``: quantize
            weights only.

    Raises:
        UsageError: no such mode.
    """
    if mode not in MODES:
        raise UsageError(
            f"observer mode is {mode!r}; expected one of {', '.join(MODES)}",
            hint="use collecting to train, frozen to evaluate",
        )
    for quantizer in quantizers(model).values():
        quantizer.mode = mode


def _insert_attention_quantizers(
    model: Any, architecture: Architecture, dynamic: bool
) -> Dict[nn.Module, ActivationQuantizer]:
    """Give every self-attention its quantizers; return the input quantizers that several linears share.

    These are a self-attention's three projections, or behind a bottleneck those of queries and keys, and the
    two linears of a gated unit.
    """
    shared: Dict[nn.Module, ActivationQuantizer] = {}
    for path, module in list(model.named_modules()):
        widening = _widening(module, architecture)
        if widening:
            device = widening[0].weight.device
            quantizer = ActivationQuantizer(signed=False, dynamic=dynamic, readers=len(widening)).to(device)
            module.input = quantizer.train(module.training)
            shared.update((linear, quantizer) for linear in widening)
        projections = _projections(module, architecture)
        if projections is not None:
            if architecture.bottleneck is not None:  # values are made of what lies before the bottleneck
                projections = projections[:2]
            quantizers = AttentionQuantizers(dynamic=dynamic, readers=len(projections))
            quantizers.to(projections[0].weight.device)
            if architecture.relative_bias is not None:
                module = _replaced(model, path, _with_bias(module, architecture))
            if architecture.relative_positions is not None:
                module = _replaced(model, path, _with_positions(module, architecture))
            module.quantizers = quantizers.train(module.training)
            shared.update((linear, quantizers.input) for linear in projections)
    return shared


def _decoders(architecture: Architecture) -> List[Decoder]:
    """The linears onto the vocabulary in the architecture's heads."""
    steps = (step for head in architecture.heads.values() for step in head.steps)
    return [step for step in steps if isinstance(step, Decoder)]


def _join_decoder(model: nn.Module, architecture: Architecture) -> None:
    """Replace the head of a masked language model whose decoder has the columns of two linears."""
    for step in _decoders(architecture):
        path = step.module.rpartition(".")[0]
        if step.columns and any(name == path for name, _ in model.named_modules()):
            _replaced(model, path, JoinedDecoder(model.get_submodule(path)))


def _with_bias(module: nn.Module, architecture: Architecture) -> nn.Module:
    """The INT8 twin of a self-attention whose scores have a bias."""
    modules = architecture.modules
    output = modules.attention_output[len(modules.attention) + 1 :]
    return BiasedSelfAttention(module, (*modules.projections, output))


def _with_positions(module: nn.Module, architecture: Architecture) -> nn.Module:
    """The INT8 twin of a self-attention whose scores also multiply with relative positions."""
    positions = architecture.relative_positions
    assert positions is not None
    own = (path.rpartition(".")[2] for path in (positions.key, positions.query))
    return DisentangledSelfAttention(module, architecture.modules.projections, tuple(own))


def _replaced(model: nn.Module, path: str, twin: nn.Module) -> nn.Module:
    """Put a module in the place of another; returns it."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, twin)
    return twin


def _float_modules(model: nn.Module, architecture: Architecture) -> Set[nn.Module]:
    """Embeddings and linears that stay float: what the compiler makes of them is added to scores.

    And a linear whose weight is part of a decoder's, which quantizes it.
    """
    positions = architecture.relative_positions
    kept = [architecture.relative_bias]
    if positions is not None:
        kept += [positions.table, positions.key, positions.query]
    kept += [step.columns or None for step in _decoders(architecture)]
    ends = tuple(path for path in kept if path is not None)
    return {module for path, module in model.named_modules() if ends and path.endswith(ends)}


def _swap_layers(
    model: Any, dynamic: bool, shared: Dict[nn.Module, ActivationQuantizer], kept: Set[nn.Module]
) -> None:
    """Put a quantized twin in the place of every linear and embedding but those that are ``kept``."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in kept:
                continue
            if type(child) is nn.Linear:
                quantizer = shared.get(child)
                if quantizer is None:
                    quantizer = ActivationQuantizer(signed=False, dynamic=dynamic).to(child.weight.device)
                setattr(parent, name, QuantLinear.from_float(child, quantizer))
            elif type(child) is nn.Embedding:
                setattr(parent, name, QuantEmbedding.from_float(child))


def _projections(module: nn.Module, architecture: Architecture) -> Optional[List[nn.Linear]]:
    """The query, key and value linears of a self-attention module; None for any other module."""
    found = [getattr(module, name, None) for name in architecture.modules.projections]
    linears = [linear for linear in found if isinstance(linear, nn.Linear)]
    return linears if len(linears) == len(found) else None


def _widening(module: nn.Module, architecture: Architecture) -> List[nn.Linear]:
    """The two linears of a gated unit that read its input, children of ``module``; else none."""
    paths = architecture.modules.widening
    if len(paths) == 1:
        return []
    found = [getattr(module, path.rpartition(".")[2], None) for path in paths]
    linears = [linear for linear in found if isinstance(linear, nn.Linear)]
    return linears if len(linears) == len(found) else []


def _supported_architecture(model: Any) -> Architecture:
    config: Any = getattr(model, "config", None)
    model_type = getattr(config, "model_type", None)
    described = {**(config.to_dict() if hasattr(config, "to_dict") else {}), "model_type": model_type}
    described["auto_map"] = getattr(config, "auto_map", None)
    architecture = architecture_of(described, f"the model ({type(model).__name__})")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise CheckpointError(
            "the model is a decoder; only bidirectional encoders can be quantized",
            hint="set is_decoder and add_cross_attention to false in config.json if it is an encoder",
        )
    position = getattr(config, "position_embedding_type", "absolute") or "absolute"
    if position != "absolute":
        raise CheckpointError(
            f"position_embedding_type is {position!r}; only absolute positions are supported",
            hint="use a checkpoint with absolute position embeddings",
        )
    return architecture
