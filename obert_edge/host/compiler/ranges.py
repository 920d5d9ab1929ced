"""Where a build gets its activation ranges: given, read from the model folder, or found by calibration."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from obert_edge.errors import UsageError
from obert_edge.host.architectures.base import Norm
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.checkpoints.quantization_format import (
    ACTIVATION_CHOICES,
    ACTIVATIONS,
    AUTO,
    EMBEDDINGS,
    FILE,
    OPERANDS,
    input_quantizer,
    operand_quantizer,
)
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.checkpoints.sparseml import Floats
from obert_edge.host.compiler.texts import Texts, calibration_batches
from obert_edge.packages import how_to_install

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranges:
    """How a model is to be quantized.

    Attributes:
        scales: what to compile it with.
        found: the same as the model was trained or calibrated: another choice of word embeddings changes
            ``scales`` alone.
        calibrated: whether they were found here and now.
        parameters: the weights and biases of the encoder's linears that ``scales`` belong to, by their names
            in the checkpoint, where they are not the checkpoint's: calibration equalizes channels.
    """

    scales: Scales
    found: Scales
    calibrated: bool = False
    parameters: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether the model learned to live with these scales: then its float weights alone are not it."""
        return self.found.method == "qat"


def find_ranges(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    ranges: Optional[Mapping[str, Any]] = None,
    calibration: Optional[Texts] = None,
    embeddings: Optional[str] = None,
    activations: Optional[str] = None,
) -> Ranges:
    """The quantization parameters to compile a model with.

    Args:
        checkpoint: the model folder.
        config: what is compiled of it.
        ranges: the content of a ``quantization.json``, taken before everything else.
        calibration: texts to calibrate with, or a file of them; default: ``quantization.json`` of the
            folder, then the scales among its weights (SparseML), then built-in texts.
        embeddings: ``int8`` or ``int4``, in place of what the model was quantized with.
        activations: ``static``, ``dynamic`` or ``auto``, of a model that is calibrated here; default: static.

    Raises:
        UsageError: calibration is needed, but torch and transformers are not installed; both
            ``ranges`` and ``calibration`` are given; there are no such ``embeddings`` or ``activations``;
            or ``activations`` are asked of a model that is quantized in the other way.
        DataError: the texts cannot be read, or the model has no tokenizer for them.
        CheckpointError: ``quantization.json`` is not as documented.
    """
    _check("embeddings", embeddings, EMBEDDINGS)
    _check("activations", activations, ACTIVATION_CHOICES)
    found = _find_ranges(
        checkpoint, config, ranges, calibration, embeddings or EMBEDDINGS[0], activations or ACTIVATIONS[0]
    )
    if not (activations == AUTO and found.calibrated):
        check_activations(activations, found.scales.activations, found.scales.source)
    if embeddings is None:
        return found
    return dataclasses.replace(found, scales=dataclasses.replace(found.scales, embeddings=embeddings))


def check_activations(asked: Optional[str], kind: str, source: str) -> None:
    """Refuse activations that a quantized model does not have.

    Args:
        asked: what the user wants; None: what there is.
        kind: what there is.
        source: what quantized them.

    Raises:
        UsageError: they are others.
    """
    if asked not in (None, kind):
        raise UsageError(
            f"{source} quantizes activations as {kind}; they were asked to be {asked}",
            hint="leave --activations out (in Python activations), or build from the float model",
        )


def _check(name: str, value: Optional[str], known: Tuple[str, ...]) -> None:
    if value not in (None, *known):
        raise UsageError(
            f"{name} is {value!r}; expected one of {', '.join(known)}",
            hint="leave it out to keep what the model was quantized with",
        )


def _find_ranges(
    checkpoint: Checkpoint,
    config: ModelConfig,
    ranges: Optional[Mapping[str, Any]],
    calibration: Optional[Texts],
    embeddings: str,
    activations: str,
) -> Ranges:
    """See :func:`find_ranges`; ``embeddings`` and ``activations`` are those of a calibration."""
    prefix = f"{config.architecture.prefix}."
    if ranges is not None:
        if calibration is not None:
            raise UsageError("ranges and calibration texts were both given", hint="give one of them")
        return _given(Scales.from_mapping(ranges, prefix))
    trained = None
    if calibration is None:
        found = Scales.load(checkpoint.folder, prefix)
        if found is not None:
            return _given(found)
        trained = checkpoint.quantization
    elif (checkpoint.folder / FILE).is_file() or checkpoint.quantization is not None:
        _log.warning(
            "%s has ranges already, which are not used: new ones are found in the calibration texts. Leave "
            "these out to keep what it was quantized with",
            checkpoint.folder,
        )
    if trained is None:
        record, parameters = _calibrate(checkpoint, config, calibration, embeddings, activations)
        scales = Scales.from_mapping(record, prefix, "the calibration")
        return Ranges(scales, scales, True, parameters)
    if set(required_quantizers(config)) <= set(trained["sites"]):
        return _given(Scales.from_mapping(trained, prefix, str(checkpoint.folder)))
    # A scale the checkpoint was trained with is better than a calibrated one; the others need one.
    record, _ = _calibrate(checkpoint, config, None, embeddings, ACTIVATIONS[0], equalized=False)
    sites = {**record["sites"], **trained["sites"]}
    record = {**record, "format": 3, "method": "qat", "weights": trained["weights"], "sites": sites}
    return _given(Scales.from_mapping(record, prefix, "the calibration"))


def _given(scales: Scales) -> Ranges:
    return Ranges(scales, scales)


def required_quantizers(config: ModelConfig) -> List[str]:
    """The names of all quantizers of a model whose activations are quantized statically."""
    architecture = config.architecture
    modules = architecture.modules
    linears: List[str] = []
    operands: List[str] = []
    if architecture.projection and config.projects:
        linears.append(f"{config.base}{architecture.projection}")
    parts = range(config.feed_forward_parts - 1)
    for path in dict.fromkeys(config.layer_paths):
        layer = config.base + path
        linears += [f"{layer}.{module}" for module in architecture.layer_linears(parts)]
        operands += [operand_quantizer(f"{layer}.{modules.attention}", operand) for operand in OPERANDS]
    if config.task != "encoder":
        steps = architecture.heads[config.task].steps
        linears += [step.module.format(base=config.base) for step in steps if not isinstance(step, Norm)]
    elif config.pooling == "pooler":
        linears.append(f"{config.base}{architecture.pooler}")
    return [input_quantizer(linear) for linear in linears] + operands


def _calibrate(
    checkpoint: Checkpoint,
    config: ModelConfig,
    texts: Optional[Texts],
    embeddings: str,
    activations: str,
    *,
    equalized: bool = True,
) -> Tuple[Dict[str, Any], Dict[str, Floats]]:
    """Calibrate the float model on texts.

    Args:
        checkpoint: the model folder.
        config: what is compiled of it.
        texts: see :func:`calibration_batches`.
        embeddings: what the word embeddings are quantized to.
        activations: ``static``, ``dynamic`` or ``auto``.
        equalized: whether weights may be rewritten so that no channel stands out.

    Returns:
        The content of a ``quantization.json``; and the weights it belongs to, see :class:`Ranges`.
    """
    try:
        from obert_edge.calibration import calibrate
        from obert_edge.host.checkpoints.pytorch import load_pytorch
        from obert_edge.host.quantization import quantization_record, quantize_model
    except ImportError as error:
        raise UsageError(
            f"{checkpoint.folder} has no quantization.json, and calibrating needs {error.name}, which is not "
            "installed",
            hint=f"{how_to_install('torch')}, or run `obert-edge quantize` where it is installed",
        ) from error
    batches = calibration_batches(checkpoint, config, texts)
    model = load_pytorch(checkpoint, config.class_for_task)[0].eval()
    if not equalized:
        quantize_model(model, activations, embeddings)  # calibrate leaves the weights of such a model alone
    calibrate(model, batches, activations=activations, embeddings=embeddings)
    parameters = _parameters(model, config) if equalized else {}
    return quantization_record(model, "calibrate"), parameters


def _parameters(model: Any, config: ModelConfig) -> Dict[str, Floats]:
    """Weights and biases of the encoder's linears, by their names in the checkpoint."""
    architecture = config.architecture
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    prefix = f"{architecture.prefix}."
    own = prefix if any(name.startswith(prefix) for name in values) else ""
    found: Dict[str, Floats] = {}
    for layer in dict.fromkeys(config.layer_paths):
        for module in architecture.modules.linears:
            for part in ("weight", "bias"):
                name = f"{layer}.{module}.{part}"
                if own + name in values:  # a family may do without biases
                    found[config.base + name] = values[own + name].numpy()
    return found
