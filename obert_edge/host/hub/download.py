"""A model by its name: what `build` and the stages read, downloaded once, and from the cache afterwards.

Only files that a reader of this package opens are fetched: configurations, tokenizers, safetensors, and a
pickle only where a folder of the repository has no safetensors. Code is never fetched.
"""

from __future__ import annotations

import glob
import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Sequence, Set, Union

from obert_edge.errors import HubError
from obert_edge.host.hub.names import HubName, hub_name
from obert_edge.host.hub.problems import explained, is_unreachable, unreachable
from obert_edge.packages import imports_for

_log = logging.getLogger(__name__)

CONFIG = "config.json"
#: The model card of a repository.
CARD = "README.md"
#: Files that a reader opens, beside weights.
_READ = re.compile(
    r"config\.json|quantization\.json|source\.json|modules\.json|config_sentence_transformers\.json|"
    r"sentence_\w+_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|"
    r"added_tokens\.json|vocab\.(txt|json)|merges\.txt|sentencepiece(\.bpe)?\.model|spm\.model|spiece\.model|"
    r"tokenizer\.model|unigram\.json|adapter_config\.json|README\.md|LICENSE(\.\w+)?"
)
_SAFETENSORS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
#: A sub-folder of a module of sentence-transformers, such as ``1_Pooling``.
_MODULE = re.compile(r"\d+_\w+")

#: Chooses among the files of a repository, by their paths.
Chooser = Callable[[Sequence[str]], List[str]]


def model_folder(model: Union[str, Path]) -> Path:
    """The folder of a model that is given by a path or by a name on a hub.

    A path that exists counts first. A name is downloaded at its revision; without a connection, or with
    ``HF_HUB_OFFLINE``, what was downloaded before is used.

    Args:
        model: a path, ``org/model``, ``org/model@revision``, or a name with ``hub:`` before it.

    Returns:
        The path as it was given, whether it exists or not; or the snapshot in huggingface_hub's cache.

    Raises:
        UsageError: ``hub:`` stands before something that is no name; huggingface_hub is not installed.
        HubError: the hub cannot be reached and the cache lacks it; there is no such repository or revision,
            or it is not given to this user; or the repository holds no model of transformers.
    """
    name = hub_name(model)
    if name is None:
        return Path(model)
    _log.info("%s: asking the hub", name)
    also = "" if str(model).startswith("hub:") else f"there is no folder {model} here, and "
    return snapshot(name, needed_files, "read", also=also)


def snapshot(name: HubName, choose: Chooser, doing: str, *, also: str = "") -> Path:
    """The folder of some files of a repository at one commit, downloaded where they are not there yet.

    Args:
        name: the repository, and the revision.
        choose: which of its files.
        doing: for messages.
        also: the same.

    Raises:
        UsageError: huggingface_hub is not installed.
        HubError: as :func:`model_folder`; or what ``choose`` raises.
    """
    with imports_for("a name on a hub"):
        from huggingface_hub import HfApi, snapshot_download

    with explained(name, doing, also=also):
        try:
            listed = HfApi().model_info(name.repository, revision=name.revision)
        except Exception as error:
            if not is_unreachable(error):
                raise
            return _cached(name, choose, error, also)
        chosen = choose([sibling.rfilename for sibling in listed.siblings or []])
        patterns = [glob.escape(path) for path in chosen]
        # By the name of the branch, not by the commit: so the cache knows afterwards what the name meant.
        return Path(
            snapshot_download(
                name.repository,
                revision=name.revision,
                allow_patterns=patterns,
                # One file holds nearly all; where several threads meet a broken connection, the library's
                # errors are about each other.
                max_workers=1,
            )
        )


def needed_files(paths: Sequence[str]) -> List[str]:
    """Those files of a repository that a reader of models opens.

    Args:
        paths: of all its files, with slashes.

    Raises:
        HubError: it holds no model of transformers.
    """
    folders: Dict[str, List[str]] = {}
    for path in paths:
        pure = PurePosixPath(path)
        folder = str(pure.parent)
        if folder == "." or _MODULE.fullmatch(folder):
            folders.setdefault(folder, []).append(pure.name)
    if not any(CONFIG in names for names in folders.values()):
        found = ", ".join(sorted(paths)[:6]) or "no files"
        raise HubError(
            f"the repository holds no model of transformers, as it has no {CONFIG}; it has {found}",
            hint="name the repository of a checkpoint; one of a bundle is for `obert-edge pull`",
        )
    chosen: Set[str] = set()
    for folder, names in folders.items():
        safe = [name for name in names if _SAFETENSORS.fullmatch(name)]
        weights = safe or [name for name in names if _PICKLES.fullmatch(name)]
        # One file of all weights counts before shards of them.
        whole = [name for name in weights if name in ("model.safetensors", "pytorch_model.bin")]
        kept = [name for name in names if _READ.fullmatch(name)] + (whole or weights)
        chosen |= {name if folder == "." else f"{folder}/{name}" for name in kept}
    return sorted(chosen)


def _cached(name: HubName, choose: Chooser, reason: BaseException, also: str) -> Path:
    """The folder that an earlier download left, if it is whole."""
    from huggingface_hub import snapshot_download

    listing = _listing(name)
    patterns = [glob.escape(path) for path in choose(listing)] if listing else None
    try:
        found = snapshot_download(
            name.repository, revision=name.revision, allow_patterns=patterns, local_files_only=True
        )
    except Exception as error:
        raise unreachable(name, reason, also=also) from error
    folder = Path(found)
    chosen = choose([str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()])
    if listing and not set(choose(listing)) <= set(chosen):
        raise unreachable(name, reason, also=also)
    _log.warning("%s: not asked of the hub, taken from the cache at commit %s", name, folder.name)
    return folder


def _listing(name: HubName) -> List[str]:
    """The files of a repository as the cache remembers them; empty: it does not."""
    try:
        from huggingface_hub import get_cached_repo_tree

        entries: List[Any] = get_cached_repo_tree(name.repository, revision=name.revision)
        return [entry.path for entry in entries]
    except Exception:  # an older huggingface_hub, or a cache that it has not listed
        return []
