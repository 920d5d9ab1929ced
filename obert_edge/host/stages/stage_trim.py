"""A model with the word embeddings of the texts it will see: fewer rows, the same answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures.base import Decoder
from obert_edge.host.checkpoints.checkpoint import CONFIG, SAFETENSORS, Checkpoint, read_json
from obert_edge.host.checkpoints.model_config import ModelConfig, read_config
from obert_edge.host.checkpoints.quantization_format import FILE as QUANTIZATION
from obert_edge.host.checkpoints.tokenizer_files import read_tokenizer
from obert_edge.host.options import Settings, option
from obert_edge.host.stages.companions import copy_companions
from obert_edge.host.stages.reports import Figures, StageReport
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import PlannedStage, RecipeContext, Stage, StageRun
from obert_edge.host.stages.tasks import takes_task
from obert_edge.host.stages.vocabulary import (
    Choice,
    Counts,
    choose_pieces,
    parse_tokenizer,
    special_ids,
    trim_tokenizer,
)
from obert_edge.progress import Progress, shown

if TYPE_CHECKING:
    from obert_edge.host.data import Task

_WHOLE = 1 << 20  # tokens per feature: nothing is cut
_CHUNK = 4096


@dataclass(frozen=True)
class TrimSettings(Settings):
    """What trimming the vocabulary can be told."""

    heading: ClassVar[str] = "Vocabulary"

    corpus: Tuple[str, ...] = option(
        (),
        path=True,
        help="Files to count pieces in, beside a task's train split: .txt (a text per line), .jsonl, .tsv or "
        ".csv, also compressed (.gz).",
    )
    min_count: int = option(1, minimum=1, help="Least count of a piece that stays.")
    keep: Optional[int] = option(
        None,
        minimum=1,
        absent="no limit",
        example=8000,
        help="The most pieces that stay; the rarest go.",
    )


@dataclass(frozen=True)
class TrimFigures(Figures):
    """What trimming came to.

    Attributes:
        pieces: how many pieces the vocabulary had.
        kept: how many of them stayed.
        needed: special tokens and single characters, which stay whatever the corpus.
        corpus_tokens: tokens of the corpus, special ones left out.
        unchanged: percent of them that keep their piece.
        bundle_mb_saved: MB of INT8 rows that a bundle saves.
        tokenizer_mb_saved: MB that ``tokenizer.json`` saves.
    """

    pieces: int
    kept: int
    needed: int
    corpus_tokens: int
    unchanged: float
    bundle_mb_saved: float
    tokenizer_mb_saved: float

    def __str__(self) -> str:
        return (
            f"{self.kept} of {self.pieces} pieces, of which {self.needed} are special tokens and characters; "
            f"{self.unchanged:.2f} % of {self.corpus_tokens} corpus tokens unchanged; a bundle saves "
            f"{self.bundle_mb_saved:.1f} MB of INT8 rows and {self.tokenizer_mb_saved:.1f} MB of tokenizer"
        )


class Trim(Stage[TrimSettings]):
    """Remove the pieces from MODEL's vocabulary that a corpus does not use."""

    name = "trim"
    verb = "trim-vocabulary"
    settings = TrimSettings
    needs_task = False

    def needs_labels(self, settings: TrimSettings) -> bool:
        """It counts pieces of texts."""
        return False

    def check(self, settings: TrimSettings, task: Optional[Task]) -> None:
        """There must be something to count pieces in."""
        if task is None and not settings.corpus:
            raise UsageError(
                "there is no corpus to count pieces in",
                hint="name files with --corpus, or a task with --task and --data",
            )

    def tell_others(self, context: RecipeContext, output: Path) -> RecipeContext:
        """The model to start from teaches later stages with the token ids that they have."""
        return context if context.start is None else dataclasses.replace(context, start=str(output))

    def plan(self, settings: TrimSettings, rows: Callable[[Training], int]) -> PlannedStage:
        """See :meth:`Stage.plan`."""
        return PlannedStage(self.name, {"min_count": settings.min_count, "pieces": settings.keep})

    def recorded(self, settings: TrimSettings) -> Dict[str, Any]:
        """See :meth:`Stage.recorded`."""
        return {"options": dataclasses.asdict(settings)}

    def apply(self, run: StageRun, settings: TrimSettings) -> TrimFigures:
        """See :meth:`Stage.apply`."""
        source = run.source
        checkpoint = Checkpoint.open(source)
        if checkpoint.quantization is not None:
            raise CheckpointError(
                f"{source} is a checkpoint of SparseML's quantization, which cannot be written back",
                hint="trim the float model, then quantize it with `obert-edge quantize`",
            )
        config = read_config(checkpoint)
        text = _tokenizer_json(source)
        description = parse_tokenizer(text, str(source))
        with shown(run.progress) as progress:
            counts = _count(run, config.vocabulary, settings.corpus, progress)
        choice = choose_pieces(
            description,
            counts,
            minimum=settings.min_count,
            keep=settings.keep,
            required=_required(checkpoint.config, config) | _of_prompts(run, config),
        )
        trimmed = trim_tokenizer(description, choice.ids)
        _write_tokenizer(source, run.output, trimmed, choice.ids)
        _write_weights(checkpoint, config, run.output, choice.ids)
        if (source / QUANTIZATION).is_file():
            shutil.copyfile(source / QUANTIZATION, run.output / QUANTIZATION)
        copy_companions(source, run.output, vocabulary=False)
        saved = len(text.encode()) - len(_compact(trimmed).encode())
        return _figures(config, description, counts, choice, saved)


@takes_task
def trim_vocabulary(
    model: Union[str, Path],
    output: Union[str, Path],
    *,
    task: Optional[Task] = None,
    corpus: Sequence[Union[str, Path]] = (),
    min_count: int = 1,
    keep: Optional[int] = None,
    progress: bool = True,
    overwrite: bool = False,
) -> StageReport:
    """Remove the pieces that a corpus does not use, from the tokenizer and the word embeddings.

    The model may be float, pruned or quantized; nothing is trained. Pieces keep their order. A text whose
    pieces are all kept gets the same answers, to the bit; in another, a word whose piece is gone is made
    of smaller ones. Special tokens and single characters always stay.

    Args:
        model: folder of a model whose tokenizer is WordPiece, BPE or Unigram.
        output: folder to write; appears only when everything is in it.
        task: count the pieces of its train split.
        corpus: or (and) of these files: ``.txt`` (a text per line), ``.jsonl``, ``.tsv`` or ``.csv``, also
            compressed (``.gz``).
        min_count: pieces that occur less often go.
        keep: at most so many pieces stay, the most frequent ones.
        progress: show a progress bar on stderr.
        overwrite: replace an existing output.

    Returns:
        What ``stage.json`` of the output holds; its figures are :class:`TrimFigures`.

    Raises:
        UsageError: there is no corpus, ``keep`` is too small, a value is out of range, or the output exists.
        CheckpointError: the model or its tokenizer cannot be used.
        DataError: the corpus cannot be read.
    """
    from obert_edge.host.stages.runner import run_stage

    settings = TrimSettings(tuple(map(str, corpus)), min_count, keep)
    return run_stage(Trim(), model, task, output, settings, progress=progress, overwrite=overwrite)


def _tokenizer_json(source: Path) -> str:
    """The file as it is, with its padding and truncation; or what older files are converted to.

    Whatever else the folder's files say of its tokenizer is copied, so it holds for what is written as well.
    """
    path = source / "tokenizer.json"
    return path.read_text(encoding="utf-8") if path.is_file() else (read_tokenizer(source) or b"").decode()


def _count(
    run: StageRun,
    vocabulary: int,
    corpus: Sequence[str],
    progress: Optional[Progress],
) -> Counts:
    """How often each id occurs; int64 ``[vocabulary]``."""
    counts = np.zeros(vocabulary, np.int64)
    for done, total, ids in _ids(run, corpus):
        found = np.bincount(np.asarray(ids, np.int64), minlength=vocabulary)
        if len(found) > vocabulary:
            raise CheckpointError(
                f"the tokenizer makes the id {len(found) - 1}; the model has {vocabulary} word embeddings",
                hint="copy the tokenizer files that belong to this model",
            )
        counts += found
        if progress is not None:
            progress("counting pieces", done, total)
    return counts


def _ids(run: StageRun, corpus: Sequence[str]) -> Iterator[Tuple[int, int, List[int]]]:
    """Texts done, texts in all, and the ids of the last ones."""
    from obert_edge.calibration import read_texts

    for file in corpus:
        texts = read_texts(file, limit=np.iinfo(np.int64).max)
        flat = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
        for start in range(0, len(flat), _CHUNK):
            encodings = run.tokenizer.encode_batch(flat[start : start + _CHUNK], add_special_tokens=False)
            yield start, len(flat), [id_ for encoding in encodings for id_ in encoding.ids]
    if run.given_task is not None:
        features = run.given_task.features("train", run.tokenizer, max_length=_WHOLE, limit=run.limit)
        for start in range(0, len(features), _CHUNK):
            rows = features[start : start + _CHUNK]
            yield start, len(features), [id_ for row in rows for id_ in row["input_ids"]]


def _required(raw: Mapping[str, Any], config: ModelConfig) -> Set[int]:
    """Ids that ``config.json`` names; and RoBERTa counts positions from its padding id: it must not move."""
    named = {value for key, value in raw.items() if key.endswith("_token_id")}
    ids = {value for value in named if isinstance(value, int) and 0 <= value < config.vocabulary}
    if config.architecture.positions_after_padding:
        ids |= set(range(config.pad_id + 1))
    return ids


def _of_prompts(run: StageRun, config: ModelConfig) -> Set[int]:
    """Ids of the prompts of an embedder, which stand before texts that nobody has counted."""
    prompts = list(config.sentence.prompts.values())
    encodings = run.tokenizer.encode_batch(prompts, add_special_tokens=False) if prompts else []
    return {id_ for encoding in encodings for id_ in encoding.ids}


def _compact(description: Mapping[str, Any]) -> str:
    return json.dumps(description, ensure_ascii=False, separators=(",", ":"))


def _figures(
    config: ModelConfig, description: Mapping[str, Any], counts: Counts, choice: Choice, bytes_saved: int
) -> TrimFigures:
    texts = counts.copy()
    texts[list(special_ids(description))] = 0
    tokens = int(texts.sum())
    return TrimFigures(
        pieces=config.vocabulary,
        kept=len(choice.ids),
        needed=choice.needed,
        corpus_tokens=tokens,
        unchanged=100.0 * int(texts[choice.ids].sum()) / max(1, tokens),
        bundle_mb_saved=(config.vocabulary - len(choice.ids)) * (config.embedding + 4) / 1e6,
        tokenizer_mb_saved=bytes_saved / 1e6,
    )


def _write_tokenizer(source: Path, folder: Path, trimmed: Mapping[str, Any], ids: Sequence[int]) -> None:
    """``tokenizer.json``, and of the older files those that the source has."""
    new = {old: place for place, old in enumerate(ids)}
    text = _compact(trimmed)
    Tokenizer.from_str(text)  # whatever is wrong is found before anything else is written
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    vocabulary = trimmed["model"]["vocab"]
    by_id = isinstance(vocabulary, dict) and list(vocabulary.values()) == list(range(len(vocabulary)))
    if (source / "vocab.txt").is_file() and by_id:  # a line per id
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
    if (source / "vocab.json").is_file():
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    if (source / "merges.txt").is_file():
        merges = [m if isinstance(m, str) else " ".join(m) for m in trimmed["model"].get("merges") or []]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    if (source / "special_tokens_map.json").is_file():
        shutil.copyfile(source / "special_tokens_map.json", folder / "special_tokens_map.json")
    added = read_json(source / "added_tokens.json")
    if added is not None:
        renumbered = {token: new[id_] for token, id_ in added.items() if id_ in new}
        (folder / "added_tokens.json").write_text(json.dumps(renumbered, indent=1), encoding="utf-8")
    settings = read_json(source / "tokenizer_config.json")
    if settings is not None:
        known = settings.get("added_tokens_decoder")
        if isinstance(known, dict):
            settings["added_tokens_decoder"] = {
                str(new[int(id_)]): token for id_, token in known.items() if int(id_) in new
            }
        (folder / "tokenizer_config.json").write_text(
            json.dumps(settings, indent=1, ensure_ascii=False), encoding="utf-8"
        )


def _write_weights(checkpoint: Checkpoint, config: ModelConfig, folder: Path, ids: Sequence[int]) -> None:
    """The tensors with fewer rows where rows are pieces, and the configuration that says so."""
    from safetensors.numpy import save_file

    rows, columns = _row_tensors(config), _column_tensors(config)
    ignored = {config.base + name for name in config.architecture.ignored}
    tensors: Dict[str, npt.NDArray[np.float32]] = {}
    for name in checkpoint.names:
        if name in ignored:
            continue
        tensor = checkpoint.tensor(name)
        if name in rows:
            if len(tensor) != config.vocabulary:
                raise CheckpointError(
                    f"tensor {name!r} of {checkpoint.folder} has {len(tensor)} rows; config.json implies "
                    f"{config.vocabulary}",
                    hint="use the config.json that was saved with these weights",
                )
            tensor = tensor[list(ids)]
        elif name in columns:
            tensor = checkpoint.tensor(name, (tensor.shape[0], config.vocabulary))[:, list(ids)]
        tensors[name] = np.ascontiguousarray(tensor)
    save_file(tensors, str(folder / SAFETENSORS), metadata={"format": "pt"})
    _write_zeros(tensors, folder)
    new = {old: place for place, old in enumerate(ids)}
    raw = dict(checkpoint.config)
    raw["vocab_size"] = len(ids)
    for key, value in raw.items():
        if key.endswith("_token_id") and isinstance(value, int) and value in new:
            raw[key] = new[value]
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def _write_zeros(tensors: Mapping[str, npt.NDArray[np.float32]], folder: Path) -> None:
    """The report of the zeros, which trimming leaves where they are."""
    import torch

    from obert_edge.host.pruning.masks import is_prunable
    from obert_edge.host.stages.sparsity import write_sparsity

    paths = {name: name[: -len(".weight")] for name in tensors if name.endswith(".weight")}
    linears = {path: torch.tensor(tensors[name]) for name, path in paths.items() if is_prunable(path)}
    write_sparsity(linears, folder)


def _column_tensors(config: ModelConfig) -> Set[str]:
    """Names of the tensors with a column per piece: what MobileBERT's decoder has beside the embeddings."""
    steps = (step for head in config.architecture.heads.values() for step in head.steps)
    return {f"{step.columns}.weight" for step in steps if isinstance(step, Decoder) and step.columns}


def _row_tensors(config: ModelConfig) -> Set[str]:
    """Names of the tensors with a row per piece: the word embeddings, and a decoder onto the vocabulary."""
    names = {f"{config.base}{config.architecture.word}.weight"}
    for head in config.architecture.heads.values():
        for step in head.steps:
            if isinstance(step, Decoder):
                names |= {f"{step.module}.weight", f"{step.module}.bias"} | (
                    {step.bias} if step.bias else set()
                )
    return names
