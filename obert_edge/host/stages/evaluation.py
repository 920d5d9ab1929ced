"""How good a stage's result is: a float folder, a quantized folder or a bundle, by the same metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple, Union

import numpy as np

from obert_edge.errors import CheckpointError, DataError, UsageError, VerificationError
from obert_edge.files import atomic_file, check_file
from obert_edge.host.checkpoints.pytorch import quiet_transformers
from obert_edge.host.data import Answer, Feature, Task
from obert_edge.host.data.base import SEQUENCE_CLASSIFICATION
from obert_edge.host.data.embedding import EMBEDDING, PROMPT_TOKENS, Embeddings, Prompts
from obert_edge.host.data.labels import tell
from obert_edge.host.hub.download import model_folder
from obert_edge.host.hub.names import HOW_TO_NAME
from obert_edge.host.stages.batching import answer_features
from obert_edge.host.stages.lengths import fitted_to, fitted_within
from obert_edge.host.stages.models import (
    Head,
    answer_reader,
    check_head,
    fit_task,
    load_model,
    quantized,
    read_config,
    task_tokenizer,
)
from obert_edge.host.stages.reports import Score
from obert_edge.host.stages.settings import Rows, Training
from obert_edge.host.stages.tasks import takes_task
from obert_edge.progress import Progress

if TYPE_CHECKING:
    from obert_edge.device.runtime.session import Session

#: Sparsities of a bundle and a folder that differ by less may be of one model: a bundle also counts weights
#: that 8 bits round to zero.
_AS_SPARSE = 0.05
#: What a line about their length calls the features here.
_SCORED = "features to score"


@takes_task
def evaluate(
    model: Union[str, Path],
    task: Task,
    *,
    split: str = "dev",
    max_length: Optional[int] = None,
    batch_size: int = 32,
    limit: Optional[int] = None,
    against: Optional[Union[str, Path]] = None,
    predictions: Optional[Union[str, Path]] = None,
    threads: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> Score:
    """Score a model on a split of its task.

    Args:
        model: a float model folder or its name on a hub, a quantized one (run with fake quantization in
            PyTorch), or a bundle (run by the engine).
        task: from :func:`obert_edge.host.data.load_task`.
        split: the split of the task to score.
        max_length: tokens per feature; default: the task's.
        batch_size: features at once.
        limit: only the first rows.
        against: another model to compare answers with.
        predictions: JSON Lines file to write ``{"id", "prediction"}`` to.
        threads: of the engine; default: all.
        progress: told how many features are answered.

    Returns:
        Its metrics; with ``against`` also the share of equal predictions, or, of embeddings, their mean
        cosine in percent.

    Raises:
        UsageError: no such split, a value out of range, or predictions that cannot be written.
        CheckpointError: the model cannot be used, or is not one of this task.
        BundleError: the bundle cannot be used.
        HubError: the model is not on the hub, or that cannot be reached.
        DataError: the split has rows without a label, or texts alone and there is no other model.
    """
    Rows.check(limit=limit)
    Training.check(max_length=max_length, batch_size=batch_size)
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; expected a whole number of 1 or more", hint="raise it")
    if predictions is not None:
        check_file(Path(predictions))
        _check_replaceable(Path(predictions))
    here, there = model_folder(model), None if against is None else model_folder(against)
    fitted = fit_model(here, task, max_length)
    # The other one is refused before the first one works.
    other = None if there is None else fit_model(there, task, max_length)
    features, answers, kind = _answer(here, fitted, split, max_length, batch_size, limit, threads, progress)
    predicted = fitted.predictions(split, features, answers)
    metrics, agreed = fitted.score(split, features, answers), None
    if there is not None and other is not None:
        theirs = _answer(there, other, split, max_length, batch_size, limit, threads, progress)[:2]
        if isinstance(fitted, Embeddings):
            compared = fitted.compare(answers, theirs[1])
            metrics, agreed = {**metrics, **compared}, compared.get("mean_cosine")
        else:
            agreed = agreement(predicted, other.predictions(split, *theirs))
    if not metrics:
        raise DataError(
            f"split {split!r} of task {task.name!r} holds texts alone, which nothing can be scored by",
            hint="give pairs, or name the dense model with --against",
        )
    if predictions is not None:
        with atomic_file(Path(predictions)) as path:
            lines = (json.dumps({"id": key, "prediction": value}) for key, value in predicted)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Score(
        model=str(model),
        kind=kind,
        task=task.name,
        split=split,
        n=len(predicted),
        metric=task.metric if task.metric in metrics else next(iter(metrics)),
        metrics=metrics,
        against=None if against is None else str(against),
        agreement=agreed,
    )


def _check_replaceable(path: Path) -> None:
    """Refuse a file that is there already and holds something else than predictions.

    Raises:
        UsageError: it is a model, data, or anything else that would be lost.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        first = file.readline()
    try:
        held = json.loads(first)
    except ValueError:
        held = None
    if not isinstance(held, dict) or set(held) != {"id", "prediction"}:
        raise UsageError(
            f"{path} is there already and holds no predictions: it would be lost",
            hint="name another file with --predictions",
        )


def fit_model(model: Union[str, Path], task: Task, max_length: Optional[int] = None) -> Task:
    """The task in the terms of a model's head, with a length that it has positions for.

    What has to be assumed is said on stderr.

    Args:
        model: a model folder, quantized or not, or a bundle.
        task: from :func:`obert_edge.host.data.load_task`.
        max_length: tokens per feature; default: the task's, within the model's positions.

    Raises:
        UsageError: ``max_length`` is more than the model has positions for.
        CheckpointError: the model is not there, has another head, or has other classes.
        BundleError: the bundle cannot be used.
    """
    path = Path(model)
    if path.is_file():
        head, positions = _bundle_head(path)
        fitted, note = fit_task(head, task)
        tell(note)
        return fitted_within(str(path), fitted, max_length, positions, positions, _SCORED)
    if not path.exists():
        raise CheckpointError(
            f"there is no model folder or bundle {path}",
            hint=f"pass a model folder or a .oeb bundle; {HOW_TO_NAME}",
        )
    return fitted_to(path, check_head(path, read_config(path), task, training=False), max_length, _SCORED)


def answer(
    model: Union[str, Path],
    task: Task,
    split: str,
    max_length: Optional[int] = None,
    batch_size: int = 32,
    limit: Optional[int] = None,
    threads: Optional[int] = None,
) -> Tuple[Task, List[Feature], List[Answer], str]:
    """Features of a split, a model's answers to them, and the kind of model it is.

    The task that comes first is the one that scores and reads them: it is in the terms of the model's head.
    """
    fitted = fit_model(model, task, max_length)
    return fitted, *_answer(model, fitted, split, max_length, batch_size, limit, threads, None)


def _answer(
    model: Union[str, Path],
    task: Task,
    split: str,
    max_length: Optional[int],
    batch_size: int,
    limit: Optional[int],
    threads: Optional[int],
    progress: Optional[Progress],
) -> Tuple[List[Feature], List[Answer], str]:
    path = Path(model)
    if path.is_file():
        return _bundle_answers(path, task, split, max_length, batch_size, limit, threads, progress)
    config = read_config(path)
    features = task.features(split, task_tokenizer(path, task), max_length=max_length, limit=limit)
    if quantized(path):
        from obert_edge.host.quantization import load_quantized

        with quiet_transformers():
            network, kind = load_quantized(path), "fake-quant"
    else:
        network, kind = load_model(path, task), "float"
    answers = answer_features(
        network,
        features,
        pad_token_id=config.get("pad_token_id") or 0,
        batch_size=batch_size,
        condense=task.condense,
        read=answer_reader(path, task),
        progress=progress,
    )
    return features, answers, kind


def agreement(ours: List[Tuple[str, Any]], theirs: List[Tuple[str, Any]]) -> float:
    """Share of examples with the same prediction, in percent; numbers within 1e-3 are the same."""
    other = dict(theirs)

    def same(left: Any, right: Any) -> bool:
        if isinstance(left, float) and isinstance(right, float):
            return abs(left - right) <= 1e-3
        return bool(left == right)

    return 100.0 * sum(same(value, other.get(key)) for key, value in ours) / max(1, len(ours))


def check_agreement(percent: float, against: object) -> None:
    """Refuse an agreement that cannot be asked for, before any work.

    Raises:
        UsageError: it is no percentage, or there is no second model.
    """
    if against is None:
        raise UsageError("--min-agreement needs two models", hint="name the other one with --against")
    if not 0 <= percent <= 100:
        raise UsageError(
            f"--min-agreement is {percent:g}; expected a percentage from 0 to 100", hint="use such as 99.5"
        )


def require_agreement(score: Score, percent: float) -> None:
    """Check the agreement :func:`evaluate` found.

    Raises:
        UsageError: no other model was given.
        VerificationError: it is below ``percent``.
    """
    if score.agreement is None:
        raise UsageError("an agreement needs two models", hint="name the other one with --against")
    if score.agreement < percent:
        raise VerificationError(
            f"{score.model} and {score.against} agree on {score.agreement:.2f} % of "
            f"{score.n} examples; at least {percent:g} % was asked for",
            hint="rebuild the bundle from this very folder; if it stays, report it with both files"
            if _is_built_of(score)
            else "the two differ more than was allowed: prune less, train longer, or lower --min-agreement",
        )


def _is_built_of(score: Score) -> bool:
    """Whether a bundle was compared with what may be its own folder, of as many zeros and quantized alike."""
    from obert_edge.bundle.container import Bundle
    from obert_edge.host.stages.sparsity import read_sparsity

    if score.kind != "bundle" or score.against is None:
        return False
    folder = model_folder(score.against)
    if not folder.is_dir():
        return False
    with Bundle.open(Path(score.model), "header") as bundle:
        sparsity, measured = bundle.manifest.encoder_sparsity, bundle.manifest.quality.against
    # One that was trained with quantization is built of a folder that says so.
    alike = measured != "fake-quant" or quantized(folder)
    return alike and abs(sparsity - (read_sparsity(folder) or 0.0)) < _AS_SPARSE


def _bundle_head(path: Path) -> Tuple[Head, int]:
    """What a bundle answers, by its manifest, and the tokens that it has positions for."""
    from obert_edge.bundle.container import Bundle

    with Bundle.open(path, "header") as bundle:
        facts, model = bundle.manifest.task, bundle.manifest.model
    problem = facts.problem_type if facts.type == SEQUENCE_CLASSIFICATION else ""
    pools_prompt = not facts.modules or facts.modules[0].type != "pooling" or facts.modules[0].include_prompt
    prompts = Prompts(facts.prompts, facts.default_prompt_name, pools_prompt, facts.similarity)
    head = Head(str(path), facts.type, model.class_name, tuple(facts.labels), problem, prompts)
    return head, model.max_length


def _bundle_answers(
    path: Path,
    task: Task,
    split: str,
    max_length: Optional[int],
    batch_size: int,
    limit: Optional[int],
    threads: Optional[int],
    progress: Optional[Progress],
) -> Tuple[List[Feature], List[Answer], str]:
    from obert_edge.bundle.container import TOKENIZER, Bundle
    from obert_edge.device.runtime.session import load
    from obert_edge.device.tokenizers.tokenizer import library_tokenizer

    with Bundle.open(path, "header") as bundle:
        tokenizer = library_tokenizer(bytes(bundle.member(TOKENIZER)))
    features = task.features(split, tokenizer, max_length=max_length, limit=limit)
    order = sorted(range(len(features)), key=lambda i: -len(features[i]["input_ids"]))
    answers: List[Optional[Answer]] = [None] * len(features)
    with load(path, threads=threads) as session:
        if isinstance(task, Embeddings):
            return features, _embeddings(session, features, batch_size), "bundle"
        uses_types = session.manifest.model.type_vocabulary > 1
        for start in range(0, len(order), batch_size):
            chosen = [features[index] for index in order[start : start + batch_size]]
            shape = (len(chosen), max(len(feature["input_ids"]) for feature in chosen))
            ids, types, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
            for row, feature in enumerate(chosen):
                length = len(feature["input_ids"])
                ids[row, :length], types[row, :length] = feature["input_ids"], feature["token_type_ids"]
                mask[row, :length] = True
            arrays = session.run(ids, mask, types if uses_types else None)
            for row, index in enumerate(order[start : start + batch_size]):
                length = len(features[index]["input_ids"])
                answer = {
                    key: value[row, :length] if key != "logits" or value.ndim == 3 else value[row]
                    for key, value in arrays.items()
                }
                answers[index] = task.condense(features[index], answer)
            if progress is not None:
                progress("answering", start + len(chosen), len(order))
    return features, [answer for answer in answers if answer is not None], "bundle"


def _embeddings(session: Session, features: List[Feature], batch_size: int) -> List[Answer]:
    """What a bundle makes of tokenized texts, by the pipeline that `encode` runs."""
    from obert_edge.device.pipelines import create_pipeline
    from obert_edge.device.pipelines.feature_extraction import Embedder
    from obert_edge.device.tokenizers.tokenizer import Encoding

    embedder = create_pipeline(session.manifest, session.tokenizer, session, {})
    assert isinstance(embedder, Embedder)
    order = sorted(range(len(features)), key=lambda i: -len(features[i]["input_ids"]))
    answers: List[Answer] = [{}] * len(features)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        encodings = [
            Encoding(features[row]["input_ids"], features[row]["token_type_ids"], [], [], []) for row in rows
        ]
        lengths = list(map(len, encodings))
        skipped = [features[row].get(PROMPT_TOKENS, 0) for row in rows]
        vectors = embedder.vectors(session.run_encodings(encodings), lengths, skipped)
        for row, vector in zip(rows, vectors):
            answers[row] = {EMBEDDING: vector}
    return answers
