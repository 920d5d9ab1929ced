"""``build``: a model folder in, a bundle out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

import obert_edge
from obert_edge.bundle import container
from obert_edge.bundle.cases import write_cases
from obert_edge.bundle.manifest import (
    LinearFacts,
    Manifest,
    ModelFacts,
    OutputFacts,
    QualityFacts,
    QuantizationFacts,
    TaskFacts,
)
from obert_edge.bundle.program import Program
from obert_edge.device.runtime.library import installed_library
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.checkpoints.sentence_transformers import RERANKER
from obert_edge.host.checkpoints.tokenizer_files import (
    tokenizer_facts,
)
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.case_runs import make_cases
from obert_edge.host.compiler.checks import (
    check_asked,
    check_model,
    check_output,
    check_target,
    problem_type_of,
)
from obert_edge.host.compiler.device_wing import runner_members
from obert_edge.host.compiler.importer import import_graph, result_names
from obert_edge.host.compiler.lowered import LoweredGraph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.four_bits import four_bit_words
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import pack
from obert_edge.host.compiler.passes.plan import plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.host.compiler.quality import (
    Reference,
    ask_bundle,
    ask_model,
    compare,
    is_constant,
    is_sound,
    is_suspect,
    loses_nothing,
    require,
    worst_layers,
)
from obert_edge.host.compiler.ranges import Ranges, find_ranges
from obert_edge.host.compiler.texts import Texts, measured_batches
from obert_edge.host.hub.card import check_card, write_card
from obert_edge.host.hub.download import model_folder
from obert_edge.host.hub.source import read_source
from obert_edge.targets import Target

_log = logging.getLogger(__name__)

#: What measuring needs beside what building does.
_MEASURING_PACKAGES = ("torch", "transformers")

#: Megabytes that word embeddings of four bits must save to be spoken of.
_WORTH_SAYING = 0.1

#: Called with the name of the stage that starts and the fraction of the work done, 0..1.
Progress = Callable[[str, float], None]


def build(
    model_dir: Union[str, Path],
    target: str = "x86",
    output: Union[str, Path] = "model.oeb",
    *,
    calibration: Optional[Texts] = None,
    ranges: Optional[Mapping[str, Any]] = None,
    task: Optional[str] = None,
    pooling: Optional[str] = None,
    max_length: Optional[int] = None,
    embeddings: Optional[str] = None,
    activations: Optional[str] = None,
    min_cosine: Optional[float] = None,
    min_agreement: Optional[float] = None,
    card: bool = True,
    sign: Optional[Union[str, Path]] = None,
    progress: Optional[Progress] = None,
) -> Path:
    """Compile a checkpoint into a bundle.

    The same inputs give the same bytes. Needs torch and transformers only to calibrate (no
    ``quantization.json`` and no ``ranges``) or to read a pickle; and to measure the bundle against the
    model, which is left out where they are not installed. The manifest keeps what was measured.

    Args:
        model_dir: a folder of ``save_pretrained``; dense or sparse, with or without ``quantization.json``. Or
            the name of one on a Hugging Face hub, ``org/model`` or ``org/model@revision``.
        target: what to build for; see ``obert_edge.targets``.
        output: the bundle file.
        calibration: texts, or a file of them, to find activation ranges with; see ``find_scales``.
        ranges: the content of a ``quantization.json``, in place of one.
        task: the head to compile: ``sequence-classification``, ``question-answering``,
            ``token-classification``, ``masked-lm`` or ``encoder``; default: the checkpoint's.
        pooling: ``mean``, ``cls`` or ``pooler``, for an encoder; default: what sentence-transformers' modules
            in the folder say, else ``mean``.
        max_length: the longest sequence, in tokens; default: what the model's tokenizer cuts texts to
            (``max_seq_length`` of sentence-transformers, else ``model_max_length``), at most all positions.
        embeddings: ``int8``, or ``int4`` for word embeddings of half the bytes; default: what the model
            was quantized with, else ``int8``, and the log says where ``int4`` would lose nothing.
        activations: ``static``, ``dynamic``, or ``auto`` (per linear, by measurement), of a model that is
            calibrated here; default: static, and dynamic where static ranges lose the model's answers.
        min_cosine: refuse a bundle whose outputs have a smaller cosine to the model's, -1..1; default:
            :data:`~obert_edge.host.compiler.quality.MIN_COSINE`.
        min_agreement: refuse a bundle that gives a smaller share of the model's answers, 0..1; default:
            :data:`~obert_edge.host.compiler.quality.MIN_AGREEMENT`.
        card: write a model card beside the bundle, ``<output>.md``, unless somebody's own text is there.
        sign: a private key to sign the bundle with; default: it is not signed.
        progress: told about stages.

    Returns:
        ``output``.

    Raises:
        UsageError: an argument is not one there is, or has no effect.
        HubError: the model is not on the hub, or it cannot be reached.
        CheckpointError: the folder is no supported model, or is damaged.
        DataError: the calibration texts cannot be read.
        VerificationError: the bundle does not answer like the model.
        ObertEdgeError: the output cannot be written.
    """
    tell = progress or (lambda stage, fraction: None)
    check_target(target)
    check_output(Path(output), Path(model_dir))
    if card:
        check_card(Path(output))
    chosen, library, signer = check_asked(
        target, calibration=calibration, min_cosine=min_cosine, min_agreement=min_agreement, sign=sign
    )
    tell("reading the checkpoint", 0.0)
    folder = model_folder(model_dir)
    checkpoint, config, tokenizer = check_model(
        folder,
        task=task,
        pooling=pooling,
        max_length=max_length,
        calibration=calibration if ranges is None else None,  # find_ranges refuses both
        min_agreement=min_agreement,
    )
    graph = select_first_early(fuse(import_graph(checkpoint, config, max_length)))

    def compiled(activations: Optional[str]) -> Compiled:
        tell("finding activation ranges", 0.1)
        found = find_ranges(
            checkpoint,
            config,
            ranges=ranges,
            calibration=calibration,
            embeddings=embeddings,
            activations=activations,
        )
        tell("quantizing and packing the weights", 0.4)
        return _compile(checkpoint, config, graph, found, chosen)

    best = compiled(activations)
    tell("measuring it against the model", 0.5)
    here = _library_here(library)
    reference = _reference(checkpoint, config, best, calibration)
    if reference is not None:
        best = _measured(best, reference, here)
        fixed = activations is not None or not best.ranges.calibrated
        if not fixed and not is_sound(best.quality, min_cosine, min_agreement):
            best = _better(best, _measured(compiled("dynamic"), reference, here))
    _judge(best, config, calibration, min_cosine, min_agreement)
    if reference is not None and embeddings is None:
        _advise_four_bits(best, reference, here)
    tell("running the embedded test cases", 0.6)
    manifest = best.manifest
    names = [output.name for output in manifest.outputs]
    cases = make_cases(best.program, best.weights, names, manifest.model, here)
    tell("writing the bundle", 0.9)
    members: Dict[str, container.Data] = {
        container.PROGRAM: best.program.to_bytes(),
        container.WEIGHTS: memoryview(best.weights),
        container.CASES: write_cases(cases),
        container.ENGINE: library.read_bytes(),
        **runner_members(),
    }
    if tokenizer is not None:
        members[container.TOKENIZER] = tokenizer
    if any(module.shapes for module in config.modules):
        members[container.MODULES] = config.sentence.weight_bytes
    path = container.write_bundle(Path(output), manifest, members, signer)
    if card:
        write_card(path)
    _log.info("wrote %s: %d bytes, sparsity %.3f", path, path.stat().st_size, manifest.sparsity)
    tell("done", 1.0)
    return path


@dataclass(frozen=True)
class Compiled:
    """A compiled model, before it is packed up.

    Attributes:
        checkpoint: what it was compiled of, with the weights that calibration rewrote.
        ranges: what it was quantized with.
        graph: what was compiled, in float.
        packed: what the program was made of.
        program: the compiled graph.
        weights: its weights blob.
        manifest: what it says about itself.
    """

    checkpoint: Checkpoint
    ranges: Ranges
    graph: ir.Graph
    packed: LoweredGraph
    program: Program
    weights: bytearray
    manifest: Manifest

    @property
    def quality(self) -> QualityFacts:
        """How it answers beside the model."""
        return self.manifest.quality


def _compile(
    checkpoint: Checkpoint, config: ModelConfig, graph: ir.Graph, ranges: Ranges, target: Target
) -> Compiled:
    """Compile a graph, or the same graph with the weights that calibration rewrote."""
    if ranges.parameters:
        checkpoint = checkpoint.replaced(ranges.parameters)
        graph = select_first_early(fuse(import_graph(checkpoint, config, graph.max_length)))
    packed, linears = pack(quantize(graph, ranges.scales), target.format_costs)
    program, weights = plan(packed)
    names = result_names(graph)
    manifest = describe_model(checkpoint, config, ranges.scales, program, names, linears, target)
    return Compiled(checkpoint, ranges, graph, packed, program, weights, manifest)


def _reference(
    checkpoint: Checkpoint, config: ModelConfig, compiled: Compiled, calibration: Optional[Texts]
) -> Optional[Reference]:
    """What the model answers; None where torch or transformers is missing."""
    try:
        batches = measured_batches(checkpoint, config, calibration)
        longest = compiled.program.max_positions
        reference = ask_model(checkpoint, config, compiled.ranges, batches, longest)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _MEASURING_PACKAGES:
            raise
        _log.warning("the bundle is not measured against the model: %s is not installed", error.name)
        return None
    if is_constant(reference):
        _log.warning(
            "%s gives the same outputs for every text: no measure can tell whether the bundle is right",
            checkpoint.folder,
        )
    return reference


def _measured(compiled: Compiled, reference: Reference, library: Path) -> Compiled:
    """The same with what it answers beside the model."""
    answers = ask_bundle(compiled.program, compiled.weights, compiled.manifest, reference, library)
    quality = compare(reference, answers, compiled.manifest)
    return dataclasses.replace(compiled, manifest=dataclasses.replace(compiled.manifest, quality=quality))


def _better(static: Compiled, dynamic: Compiled) -> Compiled:
    """The one that answers more like the model; says so where that costs speed."""
    if dynamic.quality.cosine <= static.quality.cosine:
        return static
    _log.warning(
        "with fixed ranges for activations: %s; with ranges per token, which take more time: %s. The bundle "
        "has the latter (--activations static keeps the former)",
        static.quality.summary,
        dynamic.quality.summary,
    )
    return dynamic


def _advise_four_bits(compiled: Compiled, reference: Reference, library: Path) -> None:
    """Recommend word embeddings of four bits where nothing is lost by them."""
    if compiled.ranges.scales.embeddings != "int8":
        return
    program, weights = plan(four_bit_words(compiled.graph, compiled.packed))
    saved = (len(compiled.weights) - len(weights)) / 1e6
    if saved < _WORTH_SAYING:
        return
    smaller = dataclasses.replace(compiled, program=program, weights=weights)
    quality = _measured(smaller, reference, library).quality
    if loses_nothing(quality, compiled.quality):
        _log.warning(
            "with --embeddings int4 (in Python embeddings) the bundle would be %.1f MB smaller and answer as "
            "well: %s; now %s",
            saved,
            quality.summary,
            compiled.quality.summary,
        )


def _judge(
    compiled: Compiled,
    config: ModelConfig,
    calibration: Optional[Texts],
    min_cosine: Optional[float],
    min_agreement: Optional[float],
) -> None:
    """Say how the bundle answers beside the model, where it loses most, and refuse it below the floors."""
    quality = compiled.quality
    worst: List[Tuple[str, float]] = []
    sound = not quality.texts or is_sound(quality, min_cosine, min_agreement)
    # Whoever names a floor that the bundle meets asks for no more, and finding the layers takes minutes.
    if not sound or (is_suspect(quality) and min_cosine is None):
        batches = measured_batches(compiled.checkpoint, config, calibration)
        worst = worst_layers(compiled.checkpoint, config, compiled.ranges, batches)
    require(quality, worst, min_cosine, min_agreement)
    if worst:
        layers = "; ".join(f"{name} ({error:.0%})" for name, error in worst)
        _log.warning("%s; quantized alone, these layers change the outputs most: %s", quality.summary, layers)


def _library_here(library: Path) -> Path:
    """The engine library that runs the embedded cases: this machine's, where there is one, else the target's.

    All libraries give the same bits, so a bundle for another machine gets the same cases.
    """
    installed = installed_library()
    return library if installed is None else installed.path


def describe_model(
    checkpoint: Checkpoint,
    config: ModelConfig,
    scales: Scales,
    program: Program,
    names: List[str],
    linears: List[LinearFacts],
    target: Target,
) -> Manifest:
    """The manifest of a compiled model.

    Args:
        checkpoint: where it came from.
        config: what was compiled of it.
        scales: what it was quantized with.
        program: the compiled graph.
        names: of the program's outputs, in order.
        linears: what the packer chose.
        target: what it was compiled for.
    """
    task = _task_facts(checkpoint, config, program)
    return Manifest(
        target=target.name,
        model=_model_facts(config, program),
        task=task,
        outputs=_output_facts(program, names),
        quantization=QuantizationFacts(scales.method, scales.activations, scales.embeddings),
        sparsity=_overall_sparsity(linears),
        linears=linears,
        source=read_source(checkpoint.folder),
        tokenizer=tokenizer_facts(checkpoint.folder),
        tools={"obert_edge": obert_edge.__version__, "numpy": np.__version__},
        reference=dict(target.reference),
        boards=list(target.boards),
        minimum_reader=max(program.minimum_reader, task.minimum_reader),
    )


def _model_facts(config: ModelConfig, program: Program) -> ModelFacts:
    return ModelFacts(
        architecture=config.architecture.model_type,
        class_name=config.class_for_task,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        intermediate=config.intermediate,
        embedding=config.embedding,
        vocabulary=config.vocabulary,
        max_length=program.max_positions,
        position_offset=config.position_offset,
        pad_id=config.pad_id,
        type_vocabulary=config.type_vocabulary,
        activation=config.activation_name,
    )


def _task_facts(checkpoint: Checkpoint, config: ModelConfig, program: Program) -> TaskFacts:
    sentence = config.sentence
    if not config.task.endswith("classification"):
        return TaskFacts(
            config.task,
            pooling=config.pooling,
            normalize=sentence.normalize,
            modules=list(config.modules),
            prompts=dict(sentence.prompts),
            default_prompt_name=sentence.default_prompt_name,
            similarity=sentence.similarity,
            truncate_dim=sentence.truncate_dim,
        )
    classes = program.outputs[0].channels
    names = checkpoint.config.get("id2label") or {}
    return TaskFacts(
        config.task,
        [str(names.get(str(i), f"LABEL_{i}")) for i in range(classes)],
        problem_type_of(checkpoint, config, classes),
        prompts=dict(sentence.prompts),
        default_prompt_name=sentence.default_prompt_name,
        function=_function(checkpoint, config, classes) if config.task != "token-classification" else "",
    )


def _function(checkpoint: Checkpoint, config: ModelConfig, classes: int) -> str:
    """What makes scores of the logits of a text; "": what follows from the type of problem.

    For a CrossEncoder sentence-transformers' rule, unless its several classes have a type of problem; else
    the rule of transformers' pipeline.
    """
    named = checkpoint.config.get("problem_type")
    if config.sentence.kind == RERANKER and not (classes > 1 and named):
        function = config.sentence.function or ("sigmoid" if classes == 1 else "identity")
        # One number without a function is a regression; several have probabilities, and their logits beside.
        return "" if function == "identity" else function
    if classes == 1 and not named:
        return "sigmoid"
    return ""


def _output_facts(program: Program, names: List[str]) -> List[OutputFacts]:
    return [
        OutputFacts(name, program.buffers[op.input].domain.name.lower(), op.channels)
        for name, op in zip(names, program.outputs)
    ]


def _overall_sparsity(linears: List[LinearFacts]) -> float:
    """The fraction of weights that are zero, 0..1, over all linears of encoder and head together."""
    weights = sum(linear.n * linear.k for linear in linears)
    return sum(linear.sparsity * linear.n * linear.k for linear in linears) / max(1, weights)
