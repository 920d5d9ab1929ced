"""Model folders: loading a checkpoint with the head a task needs, and saving it whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, cast

import torch
from tokenizers import Tokenizer
from torch import nn

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.checkpoints.checkpoint import Checkpoint, read_model_config
from obert_edge.host.checkpoints.model_config import ModelConfig
from obert_edge.host.checkpoints.model_config import read_config as read_config_of_model
from obert_edge.host.checkpoints.pytorch import load_pytorch, quiet_transformers
from obert_edge.host.checkpoints.sentence_embedding import SentenceEmbedding
from obert_edge.host.checkpoints.sentence_transformers import lowercased
from obert_edge.host.data import Task, load_tokenizer
from obert_edge.host.data.base import (
    ENCODER,
    MASKED_LM,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from obert_edge.host.data.embedding import EMBEDDING, Embeddings, Prompts
from obert_edge.host.data.labels import is_generic, listed, match_labels, names_of, tell
from obert_edge.host.stages.batching import AnswerReader
from obert_edge.host.stages.companions import copy_companions

QUANTIZATION = "quantization.json"
#: What transformers' classes with a head are called, after the architecture's name.
HEADS = {
    SEQUENCE_CLASSIFICATION: "ForSequenceClassification",
    TOKEN_CLASSIFICATION: "ForTokenClassification",
    QUESTION_ANSWERING: "ForQuestionAnswering",
    MASKED_LM: "ForMaskedLM",
}
#: The task to name for a head, where there is one for it alone.
_TASK_OF = {QUESTION_ANSWERING: "squad", TOKEN_CLASSIFICATION: "tokens", MASKED_LM: "mlm"}


@dataclass(frozen=True)
class Head:
    """What a model folder or a bundle answers.

    Attributes:
        where: the folder or file, for messages.
        kind: the head a task may need (:attr:`Task.head`); anything else is one that no task needs.
        class_name: what transformers calls it.
        names: the model's own names of the rows of a classification head.
        problem_type: what its labels are, as :attr:`Task.problem_type`; empty: it does not say.
        prompts: what an embedder puts before texts.
    """

    where: str
    kind: str
    class_name: str
    names: Tuple[str, ...] = ()
    problem_type: str = ""
    prompts: Prompts = Prompts({})

    @property
    def problem(self) -> str:
        """The problem type as transformers takes it: one row alone is a regression."""
        return self.problem_type or ("regression" if len(self.names) == 1 else "")


def head_of(folder: Path, config: Mapping[str, Any]) -> Head:
    """The head of a model folder by its ``config.json``.

    Raises:
        CheckpointError: the classes have no proper ids.
    """
    classes = [str(name) for name in config.get("architectures") or ()]
    kinds = [(_kind(config, name), name) for name in classes]
    kind, class_name = next(
        ((kind, name) for kind, name in kinds if kind is not None),
        (ENCODER, classes[0] if classes else "model without a head"),
    )
    if kind not in (SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION):
        return Head(str(folder), kind, class_name)
    problem = str(config.get("problem_type") or "") if kind == SEQUENCE_CLASSIFICATION else ""
    return Head(str(folder), kind, class_name, names_of(config), problem.replace("_classification", ""))


def _kind(config: Mapping[str, Any], class_name: str) -> Optional[str]:
    """The head of a class, one of :data:`HEADS`; None: it has none of them."""
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None:  # refused elsewhere
        return next((kind for kind, suffix in HEADS.items() if class_name.endswith(suffix)), None)
    found = architecture.task_of(class_name)
    return found if found in HEADS else None


def fit_task(head: Head, task: Task) -> Tuple[Task, str]:
    """The task in the terms of a model's head, and what had to be assumed for it (empty: nothing).

    Every path from a model to a task's labels goes through here: folders, bundles, stages and teachers.

    Raises:
        CheckpointError: the head is of another kind, its labels mean something else, or the data have a class
            that it lacks.
        UsageError: ``--label-map`` names no class.
    """
    if head.kind != task.head:
        raise CheckpointError(
            f"{head.where} is a {head.class_name} and {_lacks(task)}, which task {task.name!r} needs",
            hint=_other_task(head, task),
        )
    if isinstance(task, Embeddings):
        return task.for_embedder(head.prompts, head.where), ""
    note = _check_problem(head, task)
    if not task.labels or task.problem_type == "regression":
        return task.for_head(task.labels), note
    rows = match_labels(head.names, task.labels, model=head.where, task=task.name, label_map=task.label_map)
    return task.for_head(rows.classes), "\n".join(filter(None, (note, rows.note)))


def check_head(
    folder: Path,
    config: Mapping[str, Any],
    task: Task,
    *,
    new_head: bool = False,
    training: bool = True,
    quiet: bool = False,
) -> Task:
    """Refuse a model folder that does not fit a task, before any work is done on either.

    What has to be assumed is said on stderr.

    Args:
        folder: the model folder.
        config: its ``config.json``.
        task: from :func:`obert_edge.host.data.load_task`.
        new_head: whether a model without the task's head is to get a new one.
        training: whether labels will be trained, and not only scored.
        quiet: whether nothing is said, because it will be later.

    Returns:
        The task in the terms of this model's head: its features count the rows of the head.

    Raises:
        CheckpointError: the model does not fit.
    """
    if task.head == ENCODER:
        return fit_task(_embedder_of(folder, config), task)[0]
    head = head_of(folder, config)
    if head.kind != task.head and new_head:
        left = "" if head.kind == ENCODER else ", and its own is left out"
        tell("" if quiet else f"{folder} is a {head.class_name}: it gets a new {task.head} head{left}")
        return task.for_head(task.labels)
    fitted, note = fit_task(head, task)
    doubled = [label for label in task.labels if fitted.classes.count(label) > 1]
    if doubled and training:
        raise CheckpointError(
            f"several classes of {folder} ({listed(head.names)}) are {listed(doubled)} of the data: such a "
            "model can be scored, and not trained",
            hint="give each class of the model another one of the data in --label-map",
        )
    tell("" if quiet else note)
    return fitted


def load_model(folder: Path, task: Task, *, seed: int = 42, new_head: bool = False) -> nn.Module:
    """Load a checkpoint with the head of ``task``.

    Any folder that ``build`` takes will do, since one importer serves both. From a quantized checkpoint of
    SparseML the float weights are loaded. The rows of the head come in the order of ``task.classes``, with
    their names in the configuration; classes that the task lacks come after them.

    Args:
        folder: the model folder.
        task: the task, as it is or in the terms of a head (:func:`check_head`).
        seed: of a new head.
        new_head: whether a model without the task's head gets a new one, which only training makes useful.

    Raises:
        CheckpointError: the folder is not a readable checkpoint, lacks the head, or has other labels.
    """
    _refuse_quantized(folder)
    checkpoint = Checkpoint.open(folder)
    if task.head == ENCODER:
        if not task.fitted:
            check_head(folder, checkpoint.config, task)
        return _load_encoder(checkpoint, "Model")
    head = head_of(folder, checkpoint.config)
    torch.manual_seed(seed)
    if head.kind != task.head and new_head:
        model, missing = load_pytorch(checkpoint, HEADS[task.head], **task.model_options())
        _check_complete(folder, model, missing, new_head=True)
        return model  # type: ignore[no-any-return]
    fitted, note = fit_task(head, task)
    if not task.fitted:
        tell(note)
    # Names that transformers made up give way to those that were said.
    names = list(fitted.classes if is_generic(head.names) else head.names)
    model, missing = load_pytorch(checkpoint, HEADS[task.head], **_head_options(names, task))
    _check_complete(folder, model, missing)
    if task.labels:
        _order_rows(model, names, _row_order(head, fitted, task))
    return model  # type: ignore[no-any-return]


def load_as_it_is(folder: Path) -> nn.Module:
    """Load a checkpoint with the head it was saved with, or with none, for work that needs no other.

    Raises:
        CheckpointError: the folder is not a readable checkpoint, lacks weights, or has another head.
    """
    _refuse_quantized(folder)
    checkpoint = Checkpoint.open(folder)
    name = str((checkpoint.config.get("architectures") or ["Model"])[0])
    suffixes = (*HEADS.values(), "ForPreTraining", "Model")
    suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
    if suffix is None:
        raise CheckpointError(
            f"{folder} is a {name}, a head that is not supported; supported are {', '.join(suffixes)}",
            hint="save its encoder alone with save_pretrained",
        )
    return _load_encoder(checkpoint, suffix)


def _load_encoder(checkpoint: Checkpoint, suffix: str) -> nn.Module:
    """A model that keeps what was saved of it, and gets nothing new."""
    model, missing = load_pytorch(checkpoint, suffix)
    lost = [key for key in missing if "pooler." not in key]
    if lost:
        raise CheckpointError(
            f"{checkpoint.folder} lacks {len(lost)} weights of a {type(model).__name__}, the first is "
            f"{lost[0]}",
            hint="download the checkpoint again; a converted one must keep transformers' tensor names",
        )
    if missing:
        # A pooler that was never saved would be random numbers in what is written.
        getattr(model, model.base_model_prefix, model).pooler = None
    return model  # type: ignore[no-any-return]


def read_config(folder: Path) -> Dict[str, Any]:
    """``config.json`` of a model folder.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    return read_model_config(folder)


def quantized(folder: Path) -> bool:
    """Whether a model folder carries quantization ranges, beside the weights or among them."""
    return (Path(folder) / QUANTIZATION).is_file() or Checkpoint.open(folder).quantization is not None


def save_model(model: nn.Module, source: Path, folder: Path) -> None:
    """Write ``model`` and what else ``source`` holds for it into an existing folder."""
    with quiet_transformers():
        model.save_pretrained(str(folder))  # type: ignore[operator]
    copy_companions(source, folder)


def has_head(folder: Path, config: Mapping[str, Any], task: Task) -> bool:
    """Whether the checkpoint was saved with the kind of head the task needs."""
    return (_embedder_of if task.head == ENCODER else head_of)(folder, config).kind == task.head


def task_tokenizer(folder: Path, task: Optional[Task]) -> Tokenizer:
    """The tokenizer of a model folder, which lowercases where an embedder's own settings say so.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    tokenizer = load_tokenizer(folder)
    if task is not None and task.head == ENCODER and embedder_config(folder).sentence.lowercase:
        tokenizer = Tokenizer.from_str(lowercased(tokenizer.to_str().encode()).decode())
    return tokenizer


def answer_reader(folder: Path, task: Task) -> Optional[AnswerReader]:
    """What turns the outputs of a folder's model into answers; ``None``: they are its logits.

    Raises:
        CheckpointError: the folder of an embedder cannot be read.
    """
    if task.head != ENCODER:
        return None
    embedding = SentenceEmbedding(embedder_config(folder))
    return lambda outputs, batch: {EMBEDDING: embedding(outputs, batch)}


def embedder_config(folder: Path) -> ModelConfig:
    """The configuration of a model folder as an encoder's, with all that makes an embedding.

    Raises:
        CheckpointError: it is no encoder's, or something about it is not supported.
    """
    return read_config_of_model(Checkpoint.open(Path(folder)), task=ENCODER)


def _embedder_of(folder: Path, config: Mapping[str, Any]) -> Head:
    """The head of a model folder, an encoder where it would be built as one.

    sentence-transformers leaves out the head of a language model that a folder may still name.
    """
    head = head_of(folder, config)
    checkpoint = Checkpoint.open(Path(folder))
    if head.kind != ENCODER and read_config_of_model(checkpoint).task != ENCODER:
        return head
    sentence = embedder_config(folder).sentence
    prompts = Prompts(
        sentence.prompts, sentence.default_prompt_name, sentence.include_prompt, sentence.similarity
    )
    return Head(str(folder), ENCODER, head.class_name, prompts=prompts)


def _refuse_quantized(folder: Path) -> None:
    if (Path(folder) / QUANTIZATION).is_file():
        raise CheckpointError(
            f"{folder} is already quantized (it holds {QUANTIZATION})",
            hint="start from the float checkpoint this one was made from",
        )


def _lacks(task: Task) -> str:
    return "no embedder" if task.head == ENCODER else f"has no {task.head} head"


def _other_task(head: Head, task: Task) -> str:
    """What to do with a model whose head is not the task's."""
    if head.kind in _TASK_OF:
        return (
            f"name the task of its head (--task {_TASK_OF[head.kind]}), or use a model fine-tuned on this one"
        )
    if head.kind == SEQUENCE_CLASSIFICATION:
        return (
            "name the task of its head (--task text, or one of GLUE), or use a model fine-tuned on this one"
        )
    if task.head == ENCODER:
        return "use a folder of sentence-transformers, or the encoder alone"
    if task.head == MASKED_LM:
        return "use the checkpoint of the pretrained model with its masked-LM head, such as a BertForMaskedLM"
    other = ", or name the task of an embedder (--task embedding)" if head.kind == ENCODER else ""
    return f"fine-tune it on the task first (`obert-edge finetune`){other}"


def _check_problem(head: Head, task: Task) -> str:
    """Refuse a head whose labels are of another kind; what had to be assumed of one that does not say."""
    wanted, rows = task.problem_type, len(head.names)
    if not wanted:
        return ""
    if head.problem == wanted and (wanted != "regression" or rows == 1):
        return ""
    if not head.problem and wanted != "regression":
        if wanted == "single_label":
            return ""  # what transformers' pipeline takes such a model for, too
        return f"{head.where} does not say what its labels are: taken as {wanted}, as the data are"
    raise CheckpointError(
        f"{head.where} is made for {_problem_words(head.problem or 'single_label')} with {rows} "
        f"output{'s' if rows > 1 else ''} ({listed(head.names)}); the data of task {task.name!r} are for "
        f"{_problem_words(wanted)}",
        hint=_other_problem(head, task),
    )


def _problem_words(problem: str) -> str:
    words = {"single_label": "single-label classification", "multi_label": "multi-label classification"}
    return words.get(problem, problem)


def _other_problem(head: Head, task: Task) -> str:
    """What to do with data whose labels are not what a model was made for."""
    other = "use a checkpoint that was fine-tuned on such data, or the bare encoder"
    if task.name != "text":
        return other
    numbers = all(label.lstrip("-").isdecimal() for label in task.labels)
    if head.problem == "multi_label" and task.problem_type == "single_label":
        return f"read each label as a set of one with --problem-type multi_label, or {other}"
    if head.problem == "regression" and task.problem_type == "single_label" and numbers:
        return f"read the labels as numbers with --problem-type regression, or {other}"
    if task.problem_type == "regression" and head.problem != "multi_label":
        return f"make a class of every number with --problem-type single_label, or {other}"
    return other


def _head_options(names: Sequence[str], task: Task) -> Dict[str, Any]:
    """Fields of the configuration for a head that is there already, with its own names."""
    options = {key: value for key, value in task.model_options().items() if key == "problem_type"}
    if task.labels:
        options.update(
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: row for row, name in enumerate(names)},
        )
    return options


def _row_order(head: Head, fitted: Task, task: Task) -> List[int]:
    """The rows of the head in the order of ``task.classes``, and behind them those that it lacks.

    Raises:
        CheckpointError: the head lacks a class of another model that ``task`` is in the terms of.
    """
    if task.problem_type == "regression" or fitted.classes == task.classes:
        return list(range(len(fitted.classes)))
    lost = [name for name in task.classes if name not in fitted.classes]
    if lost:
        raise CheckpointError(
            f"{head.where} has the classes {listed(head.names)}; the model to train has "
            f"{listed(task.classes)}: {listed(lost)} are missing",
            hint="use models of the same classes",
        )
    chosen = [fitted.classes.index(name) for name in task.classes]
    return chosen + [row for row in range(len(fitted.classes)) if row not in chosen]


def _order_rows(model: Any, names: Sequence[str], order: Sequence[int]) -> None:
    """Put the rows of a classification head, and their names, in another order."""
    if list(order) == sorted(order):
        return
    head = _output_layer(model)
    with torch.no_grad():
        head.weight.copy_(head.weight[list(order)].clone())
        head.bias.copy_(head.bias[list(order)].clone())
    model.config.id2label = {row: names[old] for row, old in enumerate(order)}
    model.config.label2id = {names[old]: row for row, old in enumerate(order)}


def _check_complete(folder: Path, model: Any, missing: Iterable[str], *, new_head: bool = False) -> None:
    """Refuse a checkpoint that lacks weights, which loading has filled with random numbers.

    A new head may be random, and so may the pooler below it: fine-tuning trains them from there.
    """
    prefix = f"{model.base_model_prefix}."
    encoder = [key for key in missing if key.startswith(prefix) and ".pooler." not in key]
    lost = sorted(encoder) or ([] if new_head else sorted(missing))
    if lost:
        raise CheckpointError(
            f"{folder} lacks {len(lost)} weights of the {'encoder' if encoder else 'head'}, the first is "
            f"{lost[0]}",
            hint="download the checkpoint again; a converted one must keep transformers' tensor names",
        )


def _output_layer(model: nn.Module) -> nn.Linear:
    """The linear of a classification head that has a row per label."""
    classifier: Any = model.classifier
    return cast(nn.Linear, getattr(classifier, "out_proj", classifier))
