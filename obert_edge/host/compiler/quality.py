"""Whether a compiled model still answers like the one it was made of: measured at every build, kept, gated.

The program runs on the engine of this machine, which gives the bits that every other gives. It is held
against the float model; or, for a model that learned to live with eight bits, against its fake-quantized
twin, as its float weights alone are not the model that was trained.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.bundle.manifest import Manifest, QualityFacts
from obert_edge.bundle.program import Program
from obert_edge.device.runtime.batching import Packer
from obert_edge.device.runtime.native import Library
from obert_edge.errors import CheckpointError, UsageError, VerificationError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.compiler.ranges import Ranges
from obert_edge.host.compiler.texts import Batch
from obert_edge.packages import how_to_install

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

#: A bundle whose outputs have a smaller cosine to the model's is not written, unless the user says so.
#: Sound models have 0.97 and more; one value channel 50 times the others brings MiniLM to 0.89.
MIN_COSINE = 0.95
#: The share of the model's answers that a bundle must give, 0..1: none unless the user asks, as among a few
#: texts close calls weigh too much.
MIN_AGREEMENT = 0.0
#: Below this cosine the layers that lose most are named.
_SUSPECT = 0.97
_WORST = 4
#: Layers are measured one by one on so many texts: that takes a run of the model for each layer.
_TEXTS_PER_LAYER = 4
#: Kept outputs take at most so many values (128 MiB); a language model has its whole vocabulary per token.
_MOST_VALUES = 1 << 25
_MAX_THREADS = 16
_DIGITS = 3


#: What to do about a bundle that does not answer like the model, by what it was compared with.
_WAYS = {
    "float": "calibrate on some hundred texts like yours (--calibration-data), take --activations auto or "
    "dynamic, or train with quantization (obert-edge quantize)",
    "fake-quant": "build with the word embeddings that it was trained with (leave --embeddings out), or "
    "quantize it again",
}


class Inputs(NamedTuple):
    """A batch, ``[texts, tokens]`` each: ids, which tokens are real, and token types where there are any."""

    ids: Ints
    mask: npt.NDArray[np.bool_]
    types: Optional[Ints]


@dataclass(frozen=True)
class Reference:
    """What a bundle has to answer.

    Attributes:
        against: ``float`` or ``fake-quant``, the model that was asked.
        inputs: what it was asked.
        outputs: for each batch every output that counts, float32 ``[real tokens or texts, channels]``.
    """

    against: str
    inputs: List[Inputs]
    outputs: List[List[Floats]]


def counted_outputs(config: ModelConfig) -> Tuple[str, ...]:
    """The outputs that hold a model's answer; of an encoder what its embeddings are made of."""
    if config.task == "question-answering":
        return ("start_logits", "end_logits")
    return (config.embedding_output,) if config.task == "encoder" else ("logits",)


def ask_model(
    checkpoint: Checkpoint, config: ModelConfig, ranges: Ranges, batches: Sequence[Batch], max_length: int
) -> Reference:
    """Ask the model that a bundle is made of.

    Args:
        checkpoint: the model folder.
        config: what is compiled of it.
        ranges: what it is compiled with.
        batches: the questions.
        max_length: the longest sequence of the bundle, in tokens; longer ones are cut.

    Raises:
        CheckpointError: an output is NaN or infinite.
    """
    import torch

    from obert_edge.calibration import inputs_of
    from obert_edge.host.checkpoints.pytorch import load_pytorch
    from obert_edge.host.quantization import apply_scales

    model = load_pytorch(checkpoint, config.class_for_task)[0].eval()
    if ranges.trained:
        apply_scales(model, ranges.found)
    inputs: List[Inputs] = []
    outputs: List[List[Floats]] = []
    values = 0
    for batch in batches:
        cut = {name: value[:, :max_length] for name, value in batch.items()}
        asked = _inputs(cut, config)
        arguments, _ = inputs_of(model, cut)
        with torch.no_grad():
            found = model(**arguments)
        answers = [_answer(found, name, asked.mask, config) for name in counted_outputs(config)]
        if not all(np.isfinite(answer).all() for answer in answers):
            raise CheckpointError(
                f"{checkpoint.folder} answers with NaN or infinity, before anything is quantized",
                hint="the training diverged, or the weights are damaged: use another checkpoint",
            )
        inputs.append(asked)
        outputs.append(answers)
        values += sum(answer.size for answer in answers)
        if values > _MOST_VALUES:
            break
    return Reference("fake-quant" if ranges.trained else "float", inputs, outputs)


def ask_bundle(
    program: Program, weights: bytearray, manifest: Manifest, reference: Reference, library: Path
) -> List[List[Floats]]:
    """The answers of a compiled model to what the model was asked, laid out as :attr:`Reference.outputs`.

    Args:
        program: the compiled graph.
        weights: its weights blob.
        manifest: what the bundle says about itself.
        reference: the questions.
        library: an engine library that runs on this machine.
    """
    engine = Library(library)
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    packer = Packer(engine, manifest.model, uses_first_token=program.uses_first_token)
    names = [output.name for output in manifest.outputs]
    # The vectors of tokens count where nothing else is made of them.
    counted = [i for i, name in enumerate(names) if name != "last_hidden_state"] or [0]
    answers: List[List[Floats]] = []
    with engine.open(program.to_bytes(), weights, threads=threads) as native:
        for asked in reference.inputs:
            results = native.run(packer.pack(asked.ids, asked.mask, asked.types))
            answers.append([results[i] for i in counted])
    return answers


def compare(reference: Reference, found: Sequence[Sequence[Floats]], manifest: Manifest) -> QualityFacts:
    """How much a bundle's answers are those of the model.

    Cosines are taken of all outputs of a text as one vector, and of all outputs of all texts as one.

    Args:
        reference: the model's.
        found: the bundle's.
        manifest: says which kind of answer they are.
    """
    sums: List[
        npt.NDArray[np.float64]
    ] = []  # per batch [texts, 3]: products, squares of the model's, squares of the bundle's
    alike: List[npt.NDArray[np.bool_]] = []
    widest = 0
    for asked, expected, got in zip(reference.inputs, reference.outputs, found):
        starts = np.cumsum([0, *asked.mask.sum(1)])[:-1]
        widest = max(widest, sum(value.shape[1] for value in expected))
        if manifest.task.type == "encoder":  # direction alone counts: every text weighs the same
            length = np.maximum(np.linalg.norm(expected[0], axis=1, keepdims=True), 1e-30)
            expected, got = [expected[0] / length], [got[0] / length]
        per_text = np.zeros((len(starts), 3))
        for a, b in zip(expected, got):
            x, y = a.astype(np.float64), b.astype(np.float64)
            rows = np.stack([(x * y).sum(1), (x * x).sum(1), (y * y).sum(1)], axis=1)
            per_text += rows if len(rows) == len(starts) else np.add.reduceat(rows, starts)
        sums.append(per_text)
        alike += _alike(expected, got, starts, manifest)
    texts = np.concatenate(sums)
    answers = np.concatenate(alike) if alike else np.zeros(0, bool)
    overall = _cosine(texts.sum(0))
    # The one number of a regression has no direction of its own.
    least = overall if widest == 1 else min(_cosine(text) for text in texts)
    return QualityFacts(
        against=reference.against,
        texts=len(texts),
        cosine=round(overall, _DIGITS),
        least_cosine=round(least, _DIGITS),
        answers=len(answers),
        agreement=round(float(answers.mean()), _DIGITS) if len(answers) else 1.0,
    )


def is_constant(reference: Reference) -> bool:
    """Whether the model gives the same to every text, so that nothing can be learned from its answers."""
    rows = np.concatenate([output for outputs in reference.outputs for output in outputs[:1]])
    return len(rows) > 1 and float(np.ptp(rows, axis=0).max()) <= 1e-6 * float(np.abs(rows).max())


def worst_layers(
    checkpoint: Checkpoint, config: ModelConfig, ranges: Ranges, batches: Sequence[Batch]
) -> List[Tuple[str, float]]:
    """The layers that change the model's outputs most when they alone are quantized.

    Args:
        checkpoint: the folder, with the parameters of ``ranges``.
        config: what is compiled of it.
        ranges: what it is compiled with.
        batches: what to measure with; a few texts of the middle one.

    Returns:
        Path of the module and change of the outputs relative to their size, the largest first.
    """
    from obert_edge.calibration import sensitivity
    from obert_edge.host.checkpoints.pytorch import load_pytorch
    from obert_edge.host.quantization import apply_scales

    model = apply_scales(load_pytorch(checkpoint, config.class_for_task)[0], ranges.scales)
    batch = {name: value[:_TEXTS_PER_LAYER] for name, value in batches[len(batches) // 2].items()}
    return [(layer.name, layer.error) for layer in sensitivity(model, [batch])[:_WORST]]


def require(
    quality: QualityFacts,
    worst: Sequence[Tuple[str, float]],
    min_cosine: Optional[float],
    min_agreement: Optional[float],
) -> None:
    """Refuse a bundle that does not answer like the model.

    Args:
        quality: what was measured.
        worst: of :func:`worst_layers`.
        min_cosine: the floor; None: :data:`MIN_COSINE`.
        min_agreement: the floor, 0..1; None: :data:`MIN_AGREEMENT`.

    Raises:
        VerificationError: a floor is not reached.
        UsageError: a floor was asked for, and nothing could be measured, or there are no answers to count.
    """
    if not quality.texts:
        if min_cosine is not None or min_agreement is not None:
            raise UsageError(
                "the bundle cannot be measured against the model: that needs torch and transformers",
                hint=f"{how_to_install('torch')}, or leave --min-cosine and --min-agreement out",
            )
        return
    if not quality.answers:
        check_answers(min_agreement, "the model gives numbers")
    if is_sound(quality, min_cosine, min_agreement):
        return
    cosine, agreement = _floors(min_cosine, min_agreement)
    layers = "; ".join(f"{name} ({error:.0%})" for name, error in worst)
    model = "the float model" if quality.against == "float" else "the model it was trained as"
    ways = _WAYS[quality.against]
    wanted = f"a cosine of {cosine:g} or more" + (f" and {agreement:.0%} of the answers" if agreement else "")
    raise VerificationError(
        f"the bundle would not answer like {model}: {quality.summary}; expected {wanted}"
        + (f". Quantized alone, these layers change the outputs most: {layers}" if layers else ""),
        hint=f"{ways}; to accept it as it is, lower --min-cosine or --min-agreement "
        "(in Python min_cosine, min_agreement)",
    )


def check_floors(min_cosine: Optional[float], min_agreement: Optional[float]) -> None:
    """Refuse floors that no bundle could be held against, before any work is done.

    Args:
        min_cosine: -1..1, or None.
        min_agreement: 0..1, or None.

    Raises:
        UsageError: one is no number, or out of range.
    """
    for name, floor, least in (("min_cosine", min_cosine, -1), ("min_agreement", min_agreement, 0)):
        number = isinstance(floor, (int, float)) and not isinstance(floor, bool)
        if floor is not None and not (number and least <= floor <= 1):
            raise UsageError(
                f"{name} is {floor!r}; expected a number in [{least}, 1]",
                hint="use a value such as 0.9, or leave it out",
            )


def check_answers(min_agreement: Optional[float], why: str) -> None:
    """Refuse a floor of answers for a model that gives none.

    Args:
        min_agreement: the floor; None, or 0 as by default: there is none.
        why: what the model gives instead.

    Raises:
        UsageError: there is one.
    """
    if min_agreement:
        raise UsageError(
            f"min_agreement is {min_agreement:g}, and has no effect: {why}, and no answers to count",
            hint="leave --min-agreement out, or set --min-cosine, which holds numbers against the model's",
        )


def is_sound(quality: QualityFacts, min_cosine: Optional[float], min_agreement: Optional[float]) -> bool:
    """Whether the floors are reached; see :func:`require`."""
    cosine, agreement = _floors(min_cosine, min_agreement)
    return quality.cosine >= cosine and quality.agreement >= agreement


def loses_nothing(quality: QualityFacts, beside: QualityFacts) -> bool:
    """Whether a bundle gives as many of the model's answers as another one does, and no other cosines.

    Cosines that differ by one in the last digit that is kept count as the same.

    Args:
        quality: of the bundle.
        beside: of the other one, measured on the same texts.
    """
    lost = [beside.cosine - quality.cosine, beside.least_cosine - quality.least_cosine]
    return (
        quality.texts > 0
        and all(round(value * 10**_DIGITS) <= 1 for value in lost)
        and quality.agreement >= beside.agreement
    )


def is_suspect(quality: QualityFacts) -> bool:
    """Whether the layers that lose most should be named even where the floors are reached."""
    return quality.texts > 0 and quality.cosine < _SUSPECT


def _floors(min_cosine: Optional[float], min_agreement: Optional[float]) -> Tuple[float, float]:
    return (
        MIN_COSINE if min_cosine is None else min_cosine,
        MIN_AGREEMENT if min_agreement is None else min_agreement,
    )


def _inputs(batch: Batch, config: ModelConfig) -> Inputs:
    ids = batch["input_ids"].numpy()
    mask = (
        batch["attention_mask"].numpy().astype(bool) if "attention_mask" in batch else np.ones_like(ids, bool)
    )
    # RoBERTa's tokenizer and models without token types have no use for them.
    types = batch["token_type_ids"].numpy() if "token_type_ids" in batch else None
    return Inputs(ids, mask, types if config.type_vocabulary > 1 else None)


def _answer(found: Any, name: str, mask: npt.NDArray[np.bool_], config: ModelConfig) -> Floats:
    """One output of the model as the bundle has it: ``[real tokens or texts, channels]``."""
    if config.pooling:
        return _pooled(found, mask, config.pooling)
    value = found[name].numpy()
    value = value[..., None] if value.shape == mask.shape and name != "logits" else value
    answer: Floats = np.asarray(value[mask] if value.ndim == 3 else value)
    return answer


def _pooled(found: Any, mask: npt.NDArray[np.bool_], pooling: str) -> Floats:
    if pooling == "pooler":
        return np.asarray(found.pooler_output.numpy())
    hidden = found.last_hidden_state.numpy()
    if pooling == "cls":
        return np.asarray(hidden[:, 0])
    weights = (mask / mask.sum(1, keepdims=True)).astype(np.float32)
    return np.asarray(np.einsum("bs,bsc->bc", weights, hidden))


def _alike(
    expected: Sequence[Floats], got: Sequence[Floats], starts: Ints, manifest: Manifest
) -> List[npt.NDArray[np.bool_]]:
    """Which answers are the same: classes of texts or tokens, sets of classes, spans; none for numbers."""
    task = manifest.task
    if task.type == "encoder" or task.problem_type == "regression":
        return []
    if task.type == "question-answering":
        ends = [*starts[1:], len(expected[0])]
        best = [
            [[int(value[a:b, 0].argmax()) for a, b in zip(starts, ends)] for value in side]
            for side in (expected, got)
        ]
        return [(np.array(best[0]) == np.array(best[1])).all(0)]
    if task.problem_type == "multi_label":
        return [((expected[0] > 0) == (got[0] > 0)).all(1)]
    return [expected[0].argmax(1) == got[0].argmax(1)]


def _cosine(sums: Any) -> float:
    """From the sums of products and of both squares; two vectors of nothing are alike."""
    product, left, right = (float(value) for value in sums)
    if left == 0 or right == 0:
        return 1.0 if left == right else 0.0
    return product / math.sqrt(left * right)
