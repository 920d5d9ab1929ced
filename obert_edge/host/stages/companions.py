"""What a model folder holds beside its weights, and which of it goes along when a stage writes another.

A tokenizer, the modules of sentence-transformers (pooling, dense layers, normalization), prompts and licenses
belong to the model whatever a stage does to its weights. What is left out, and why:

* weights in any format (``model.safetensors``, ``pytorch_model.bin``, ``tf_model.h5``, ``onnx/``,
  ``openvino/``): they are those of the model before;
* the state of a training run (``optimizer.pt``, ``checkpoint-*/``, ``trainer_state.json``);
* ``config.json`` and whatever a stage writes itself, ``quantization.json`` with it;
* ``README.md``: it describes another model, and its numbers are not those of the new one;
* bundles, with their cards and scores: they are of the model before, too;
* hidden files, and links that lead out of the folder.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Iterator

from obert_edge.host.checkpoints.checkpoint import read_json

#: What a stage writes, or what describes weights or a run that are gone.
_LEFT_OUT = frozenset(
    {
        "config.json",
        "stage.json",
        "sparsity.json",
        "sparsity.md",
        "train_log.csv",
        "quantization.json",
        "recipe.json",
        "summary.json",
        "trainer_state.json",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
        "quantize_config.json",
        "adapter_config.json",
        "readme.md",
        "readme.txt",
    }
)
#: Suffixes of what goes along; weights and archives have others. Licenses often have none.
_SUFFIXES = frozenset({".json", ".txt", ".model", ".vocab", ".codes", ".bpe", ".jinja", ".md", ""})
#: What a vocabulary is kept in, and what names its ids.
_VOCABULARY = re.compile(
    r"tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|vocab\..*|"
    r"merges\.txt|.*\.(model|vocab|codes|bpe)|unigram\.json|encoder\.json|dict\.txt|generation_config\.json"
)
#: Files that the model is read with: where one is a link, its content is what was used.
_READ = re.compile(
    r"tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(txt|json)|"
    r"merges\.txt|sentencepiece\.bpe\.model|spm\.model|spiece\.model"
)
#: A bundle, and what is written beside one and named after it.
_OF_A_BUNDLE = re.compile(r".*\.oeb(\..*)?")
#: A module of sentence-transformers, such as ``1_Pooling`` or ``2_Dense``.
_MODULE = re.compile(r"\d+_\w+")

_log = logging.getLogger(__name__)


def copy_companions(source: Path, folder: Path, *, vocabulary: bool = True) -> None:
    """Copy what goes along from one model folder to another.

    Args:
        source: the model folder that was read.
        folder: the one that is written; what it has already stays.
        vocabulary: whether the vocabulary is the same; else the files that hold it are left out.
    """
    source, folder = Path(source), Path(folder)
    for path in companions(source):
        target = folder / path.relative_to(source)
        if target.exists() or (not vocabulary and _VOCABULARY.fullmatch(path.name.lower())):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def companions(source: Path) -> Iterator[Path]:
    """The files of a model folder that go along with its weights, in order; see the module."""
    for path in sorted(source.iterdir()):
        if path.is_dir() and not path.is_symlink() and _MODULE.fullmatch(path.name):
            for inner in sorted(path.rglob("*")):
                # Weights of a module are its own, and no stage changes them.
                if inner.is_file() and _belongs(inner, source):
                    yield inner
        elif path.is_file() and _goes_along(path) and _belongs(path, source):
            yield path


def transformer_folder(source: Path) -> str:
    """The sub-folder that holds the transformer of an older sentence-transformers folder; "": none.

    Older versions keep it in ``0_Transformer`` or ``0_BERT``, beside ``modules.json``.
    """
    if (source / "config.json").exists() or not (source / "modules.json").is_file():
        return ""
    inner = [path.parent.name for path in sorted(source.glob("0_*/config.json"))]
    return inner[0] if inner and read_json(source / inner[0] / "config.json") else ""


def _goes_along(path: Path) -> bool:
    name = path.name.lower()
    left_out = name.startswith(".") or name in _LEFT_OUT or name.endswith(".index.json")
    if left_out or _OF_A_BUNDLE.fullmatch(name):
        return False
    return path.suffix.lower() in _SUFFIXES


def _belongs(path: Path, source: Path) -> bool:
    """Whether a file is the folder's own, or one of the Hub's cache, which links to its blobs."""
    found, root = path.resolve(), source.resolve()
    blobs = root.parent.parent / "blobs"
    if root in found.parents or (root.parent.name == "snapshots" and blobs in found.parents):
        return True
    if path.parent == source and _READ.fullmatch(path.name):
        return True
    _log.warning("%s leads out of its folder and is not copied", path)
    return False
