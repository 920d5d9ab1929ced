"""What no bundle is made of, or written to: refused before any work, by a build and by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple, Union

from obert_edge.bundle.container import check_bundle_output
from obert_edge.bundle.signature import Signer
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.files import check_file
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig, read_config
from obert_edge.host.checkpoints.sentence_transformers import encoder_folder, lowercased
from obert_edge.host.checkpoints.tokenizer_files import check_room, check_tokenizer, read_tokenizer
from obert_edge.host.compiler.importer import check_length
from obert_edge.host.compiler.quality import check_answers, check_floors
from obert_edge.host.compiler.texts import Texts, check_texts, refuse_texts
from obert_edge.host.signing import read_signer
from obert_edge.targets import Target, available_targets, get_target, library_path

#: What transformers calls the types of problems of a classifier.
_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

#: Endings of what a bundle is not, with what each is of.
_OTHER_FORMATS = {
    ".onnx": "a model for ONNX Runtime",
    ".xml": "a model for OpenVINO",
    ".tflite": "a model for LiteRT",
    ".gz": "a packed bundle",
    ".safetensors": "the weights of a model folder",
    ".bin": "the weights of a model folder",
    ".pt": "a file of PyTorch",
}
#: How to get some of them after all.
_OTHER_WAYS = {
    ".tflite": "; with --tflite `build` writes models for LiteRT beside it",
    ".gz": "; `obert-edge pack` makes a packed bundle of it",
}


def check_target(target: str) -> None:
    """Refuse a file where the target belongs, as in ``build(folder, "model.oeb")``.

    Raises:
        UsageError: it is one.
    """
    text = str(target)
    if text not in available_targets() and (Path(text).suffix or "/" in text):
        raise UsageError(
            f"the target is {text!r}, which looks like a file; targets are: {', '.join(available_targets())}",
            hint=f"name both: build(model, target='{available_targets()[0]}', output={text!r}); on the "
            "command line they are --target and -o",
        )


def _as_bundle(output: Path) -> Path:
    """A name for a bundle that is like a name for something else."""
    return output.with_suffix("") if output.stem.endswith(".oeb") else output.with_suffix(".oeb")


def check_asked(
    target: str,
    *,
    calibration: Optional[Texts] = None,
    min_cosine: Optional[float] = None,
    min_agreement: Optional[float] = None,
    sign: Optional[Union[str, Path]] = None,
) -> Tuple[Target, Path, Optional[Signer]]:
    """Refuse what no model could be built with, before any work is done; see :func:`build`.

    Returns:
        The target, the path of its engine library, and what signs.

    Raises:
        UsageError: there is no such target, its library is not there, or a floor is out of range.
        DataError: the calibration texts cannot be read.
        ObertEdgeError: the key cannot sign.
    """
    check_floors(min_cosine, min_agreement)
    signer = None if sign is None else read_signer(sign)
    chosen = get_target(target)
    library = library_path(chosen)
    check_texts(calibration)
    return chosen, library, signer


def check_model(
    folder: Path,
    *,
    task: Optional[str] = None,
    pooling: Optional[str] = None,
    max_length: Optional[int] = None,
    calibration: Optional[Texts] = None,
    min_agreement: Optional[float] = None,
    problem_type: Optional[str] = None,
) -> Tuple[Checkpoint, ModelConfig, Optional[bytes]]:
    """Refuse what a model cannot be built with, by its configuration and tokenizer; see :func:`build`.

    Args:
        folder: the model folder, or that of a model which training gives the head ``task``.
        task: see :func:`build`.
        pooling: the same.
        max_length: the same.
        calibration: the same.
        min_agreement: the same.
        problem_type: what training makes the classes of; None: what the folder says.

    Returns:
        The checkpoint, what is compiled of it, and its ``tokenizer.json``.

    Raises:
        UsageError: the model has no such head, pooling or length, or gives no answers to count.
        CheckpointError: the folder is no supported model, or is damaged.
        DataError: the model has no tokenizer for the calibration texts.
    """
    checkpoint = Checkpoint.open(encoder_folder(folder))
    config = read_config(checkpoint, task, pooling)
    check_length(config, max_length)
    if config.task == "encoder":
        check_answers(min_agreement, "an encoder gives vectors")
    elif config.task == "sequence-classification":
        classes = checkpoint.label_count(config.architecture) or 0
        if (problem_type or problem_type_of(checkpoint, config, classes)) == "regression":
            check_answers(min_agreement, "a regression gives numbers")
    tokenizer = read_tokenizer(checkpoint.folder)
    if tokenizer is None:
        refuse_texts(checkpoint, calibration)
    elif config.sentence.lowercase:
        tokenizer = lowercased(tokenizer)
    check_tokenizer(tokenizer, config.vocabulary, checkpoint.folder)
    pairs = config.task == "question-answering"
    check_room(tokenizer, max_length or config.default_length, pairs, checkpoint.folder)
    return checkpoint, config, tokenizer


def check_output(output: Path, model_dir: Path) -> None:
    """Refuse an output that cannot become a bundle, before any work is done.

    Args:
        output: the file to write.
        model_dir: the folder that is read.

    Raises:
        UsageError: it is a folder, lies below a file, is a file of the model, holds something else than a
            bundle, or is called like something else.
        ObertEdgeError: its folder cannot be written.
    """
    if output.suffix in _OTHER_FORMATS:
        raise UsageError(
            f"the output {output} is called like {_OTHER_FORMATS[output.suffix]}, and `build` writes a "
            "bundle",
            hint=f"name it {_as_bundle(output)}{_OTHER_WAYS.get(output.suffix, '')}",
        )
    check_file(output)
    if output.is_file() and output.suffix != ".oeb" and model_dir.resolve() in output.resolve().parents:
        raise UsageError(
            f"the output {output} is a file of the model", hint="name another output, such as model.oeb"
        )
    check_bundle_output(output)


def problem_type_of(checkpoint: Checkpoint, config: ModelConfig, classes: int) -> str:
    """``single_label``, ``multi_label`` or ``regression``, as transformers chooses the loss.

    One output means a regression, unless ``problem_type`` of the configuration says otherwise.
    """
    if config.task == "token-classification":
        return "single_label"
    named = str(checkpoint.config.get("problem_type") or "")
    if not named:
        return "regression" if classes == 1 else "single_label"
    if named not in _PROBLEM_TYPES:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} has problem_type = {named!r}; expected "
            f"{', '.join(_PROBLEM_TYPES)}",
            hint="write the one that the head was trained for, or take problem_type out",
        )
    return named.replace("_classification", "")
