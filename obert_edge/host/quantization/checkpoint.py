"""Saving and loading a quantized model folder: what transformers writes, plus ``quantization.json``.

The format is in ``docs/architecture.md``. The weights stay float under their usual names: any tool that reads
the folder finds the master weights, and the INT8 ones follow from them by the rule of
``docs/reference/numerics.md``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

import transformers
from torch import nn

from obert_edge.errors import CheckpointError, ObertEdgeError
from obert_edge.files import atomic_folder
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.checkpoints.quantization_format import (
    ACTIVATIONS,
    EMBEDDINGS,
    FILE,
    FORMATS,
    MIXED,
    RECORDED_ACTIVATIONS,
)
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.quantization.attention import AttentionQuantizers
from obert_edge.host.quantization.convert import (
    activations_of,
    embeddings_of,
    input_quantizers,
    quantize_model,
    quantizers,
    scale_per_token,
    set_observers,
)
from obert_edge.host.quantization.modules import ActivationQuantizer, QuantLinear, quantized_modules


def quantization_record(model: nn.Module, method: str) -> Dict[str, Any]:
    """The content of ``quantization.json`` for a quantized model.

    Raises:
        ObertEdgeError: a quantizer was never observed.
    """
    parameters: Dict[str, Any] = {}
    unseen: List[str] = []
    for name, quantizer in quantizers(model).items():
        if quantizer.dynamic:
            continue
        if not quantizer.ready:
            unseen.append(name)
        parameters[name] = {"scale": quantizer.scale, "zero_point": quantizer.zero_point}
    if unseen:
        raise ObertEdgeError(
            f"{len(unseen)} of {len(parameters)} quantizers have no range, the first is {unseen[0]}",
            hint="train with QATCallback or calibrate the model before saving it; a layer that no input "
            "reaches cannot be quantized",
        )
    weights = {
        name: {"scale": module.weight_scale}
        for name, module in quantized_modules(model)
        if isinstance(module, QuantLinear) and module.weight_scale is not None
    }
    activations, embeddings = activations_of(model), embeddings_of(model)
    default = embeddings == EMBEDDINGS[0]
    return {
        "format": 4 if activations == MIXED else 3 if not default else 2 if weights else 1,
        "method": method,
        "activations": activations,
        **({} if default else {"embeddings": embeddings}),
        "sites": parameters,
        **({"weights": weights} if weights else {}),
    }


def float_state_dict(model: nn.Module) -> Dict[str, Any]:
    """``model.state_dict()`` without the quantizers' buffers, so with the keys of the float model."""
    prefixes = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, (ActivationQuantizer, AttentionQuantizers))
    )
    return {key: value for key, value in model.state_dict().items() if not key.startswith(prefixes)}


def save_quantized(
    model: Any,
    tokenizer: Any,
    folder: Union[str, Path],
    method: str = "qat",
    *,
    overwrite: bool = False,
) -> None:
    """Write a quantized model folder, whole or not at all.

    Args:
        model: a model of ``quantize_model`` whose ranges are known.
        tokenizer: its tokenizer, or None to write none.
        folder: the output; must not exist or be empty, unless ``overwrite``.
        method: how the ranges were found: ``qat`` or ``calibrate``; kept for the reader.
        overwrite: replace what is there.

    Raises:
        ObertEdgeError: a quantizer has no range, or the folder cannot be written.
        UsageError: the folder is not empty.
    """
    record = quantization_record(model, method)
    with atomic_folder(Path(folder), overwrite=overwrite) as temporary:
        model.save_pretrained(temporary, state_dict=float_state_dict(model))
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        (temporary / FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_quantized(folder: Union[str, Path], model_class: Optional[Any] = None) -> Any:
    """Rebuild the fake-quantized model of a folder of :func:`save_quantized`, or of SparseML's QAT.

    Args:
        folder: the model folder.
        model_class: a transformers class; default: the one ``config.json`` names.

    Returns:
        The model in eval mode with its ranges frozen.

    Raises:
        CheckpointError: the folder or its ``quantization.json`` is missing, broken or does not fit
            the model.
    """
    folder = Path(folder)
    checkpoint = Checkpoint.open(folder)
    record = checkpoint.quantization
    if record is None or (folder / FILE).is_file():
        record = _read(folder / FILE)
    class_name = _class_name(checkpoint) if model_class is None else model_class.__name__
    model, missing = load_pytorch(checkpoint, class_name)
    if missing and not (class_name.endswith("Model") and all(".pooler." in f".{name}" for name in missing)):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of a {class_name}, the first is {missing[0]}",
            hint="check that the folder is complete; write it again with `obert-edge quantize`",
        )
    if missing:
        # A pooler that was never saved would be random numbers, with a quantizer that nobody observed.
        getattr(model, model.base_model_prefix, model).pooler = None
    _quantize_as(
        model, record["activations"], record.get("embeddings", EMBEDDINGS[0]), record["sites"].__contains__
    )
    expected = {name: quantizer for name, quantizer in quantizers(model).items() if not quantizer.dynamic}
    odd = sorted(set(expected) ^ set(record["sites"]))
    one_of_several = class_name not in (checkpoint.config.get("architectures") or [class_name])
    # Other tools quantize more places than the engine has, and the other heads have places of their own.
    if record is checkpoint.quantization or one_of_several:
        odd = sorted(set(expected) - set(record["sites"]))
    if odd:
        raise CheckpointError(
            f"{folder / FILE} does not fit the model: {len(odd)} quantizers differ, the first is {odd[0]}",
            hint="quantize the model again with this version of obert-edge",
        )
    for name, quantizer in expected.items():
        try:
            quantizer.set_params(
                float(record["sites"][name]["scale"]), int(record["sites"][name]["zero_point"])
            )
        except (KeyError, TypeError, ValueError, ObertEdgeError) as error:
            raise CheckpointError(
                f"{folder / FILE}: quantizer {name} is not valid: {error}", hint="quantize the model again"
            ) from error
    _set_weight_scales(model, record.get("weights") or {}, folder)
    set_observers(model, "frozen")
    return model.eval()


def apply_scales(model: Any, scales: Scales) -> Any:
    """Make a float model, in place, the fake-quantized one that the compiler makes of the same scales.

    A quantizer that the scales lack stays float: what is compiled does not read it.

    Args:
        model: a float transformers model.
        scales: what it is quantized with.

    Returns:
        ``model``, in eval mode with its ranges frozen.
    """
    _quantize_as(
        model, scales.activations, scales.embeddings, lambda name: scales.quantizer(name) is not None
    )
    set_observers(model, "frozen")
    for name, quantizer in quantizers(model).items():
        found = scales.quantizer(name)
        if quantizer.dynamic:
            continue
        if found is None:
            quantizer.mode = "float"
        else:
            quantizer.set_params(*found)
    for name, module in quantized_modules(model):
        scale = scales.weight(name)
        if isinstance(module, QuantLinear) and scale is not None:
            module.weight_scale = float(scale)
    return model.eval()


def _quantize_as(model: Any, activations: str, embeddings: str, known: Callable[[str], bool]) -> None:
    """Quantize a float model as it was recorded.

    Args:
        model: the model.
        activations: one of :data:`RECORDED_ACTIVATIONS`.
        embeddings: of the word embeddings.
        known: whether the record has a quantizer; only ``mixed`` activations depend on it.
    """
    quantize_model(model, ACTIVATIONS[0] if activations == MIXED else activations, embeddings)
    if activations == MIXED:
        scale_per_token(model, [name for name in input_quantizers(model) if not known(name)])


def _set_weight_scales(model: nn.Module, weights: Mapping[str, Any], folder: Path) -> None:
    """Give linears the scales they were trained with."""
    modules = dict(model.named_modules())
    for name, value in weights.items():
        module = modules.get(name)
        scale = value.get("scale") if isinstance(value, Mapping) else None
        if not isinstance(module, QuantLinear) or not isinstance(scale, (int, float)) or not scale > 0:
            raise CheckpointError(
                f"{folder} gives {name} the weight scale {value!r}; expected the path of a linear and "
                '{"scale": a number above 0}',
                hint="quantize the model again",
            )
        module.weight_scale = float(scale)


def _read(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} holds no {path.name}: it is not a quantized model folder",
            hint="make one with `obert-edge quantize`",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["format"]
        if not isinstance(record["sites"], dict) or record["activations"] not in RECORDED_ACTIVATIONS:
            raise ValueError("sites or activations are not as expected")
        if record.get("embeddings", EMBEDDINGS[0]) not in EMBEDDINGS:
            raise ValueError(f"embeddings are {record['embeddings']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a quantization record: {error!r}", hint="quantize the model again"
        ) from error
    if found not in FORMATS:
        raise CheckpointError(
            f"{path} has format {found}; this version reads format {', '.join(map(str, FORMATS))}",
            hint="use the obert-edge that wrote it, or quantize the model again",
        )
    return dict(record)


def _class_name(checkpoint: Checkpoint) -> str:
    """The class ``config.json`` names, if it is a model of an architecture that is supported.

    Of a class with several heads it is the one of the head that is compiled and scored.
    """
    try:
        name = str(checkpoint.config["architectures"][0])
        known = ARCHITECTURES.get(getattr(transformers, name).config_class.model_type)
        if known is None:
            raise ValueError(name)
        if name in known.class_tasks:
            return known.class_name(known.class_tasks[name])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'} names no supported model class of transformers: {error!r}",
            hint='give "architectures" in config.json, or pass model_class',
        ) from error
    return name
