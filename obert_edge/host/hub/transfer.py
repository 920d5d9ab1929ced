"""Bundles to a hub and from it, with their model cards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence

from obert_edge.bundle.container import Bundle, check_bundle_output
from obert_edge.bundle.packed import SUFFIX as PACKED
from obert_edge.bundle.packed import pack_bundle, unpack_bundle
from obert_edge.bundle.signature import Key
from obert_edge.errors import HubError, UsageError
from obert_edge.files import atomic_file
from obert_edge.host.hub.card import MARK, card_path, card_text, is_ours
from obert_edge.host.hub.download import CARD, snapshot
from obert_edge.host.hub.names import HubName, repository_name
from obert_edge.host.hub.problems import endpoint, explained
from obert_edge.packages import require_packages

SUFFIX = ".oeb"


class Pushed(NamedTuple):
    """What a push came to.

    Args:
        repository: such as ``org/name``.
        commit: the new commit; the one before it where nothing has changed.
        url: where people find it.
        card: whether the repository's card is ours; else it had one of its own, which stays.
    """

    repository: str
    commit: str
    url: str
    card: bool


class Pulled(NamedTuple):
    """What a pull came to.

    Args:
        bundle: the file.
        commit: of the repository.
        card: the card beside it; ``None``: the repository has none, or somebody's own text is there.
    """

    bundle: Path
    commit: str
    card: Optional[Path]


def push(
    bundle: Path, repository: str, *, private: bool = False, message: str = "", pack: bool = False
) -> Pushed:
    """Put a bundle and its card into a repository of a hub, which is made where it does not exist.

    Every member is checked first. Both files arrive in one commit.

    Args:
        bundle: the file; it keeps its name.
        repository: ``org/name``, or ``org/name@branch``.
        private: whether a repository that is made is for its owners alone.
        message: of the commit; "": one that names the file.
        pack: whether to put its packed form there, of which a pull makes the same bundle.

    Raises:
        UsageError: the name is none, or the file is not called ``.oeb``.
        BundleError: the bundle is damaged.
        HubError: the hub cannot be reached, or refuses.
    """
    bundle = Path(bundle)
    name = repository_name(repository)
    if bundle.suffix != SUFFIX:
        raise UsageError(
            f"{bundle} is not called {SUFFIX}, as a pull expects", hint=f"rename it to end in {SUFFIX}"
        )
    Bundle.open(bundle, "full").close()
    beside = card_path(bundle)
    text = beside.read_text(encoding="utf-8") if beside.is_file() else card_text(bundle)
    require_packages("`push`", ("huggingface_hub",))
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with _sent(bundle, pack) as sent, explained(name, "write"):
        api.create_repo(name.repository, private=private or None, exist_ok=True)
        ours = _may_write_card(name)
        files = [CommitOperationAdd(sent.name, str(sent))]
        files += [CommitOperationAdd(CARD, text.encode())] if ours else []
        done = api.create_commit(
            name.repository, files, commit_message=message or f"Add {sent.name}", revision=name.revision
        )
    return Pushed(name.repository, done.oid, f"{endpoint()}/{name.repository}", ours)


@contextlib.contextmanager
def _sent(bundle: Path, pack: bool) -> Iterator[Path]:
    """The file to send, for as long as the context lasts."""
    if not pack:
        yield bundle
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pack_bundle(bundle, Path(folder) / (bundle.name + PACKED))


def pull(
    repository: str,
    output: Optional[Path] = None,
    *,
    file: Optional[str] = None,
    trusted_keys: Optional[Sequence[Key]] = None,
) -> Pulled:
    """Fetch a bundle, packed or not, and its card from a repository of a hub.

    The bundle is checked before it takes the place of anything: every member's hash, and with keys who signed
    it. Without a connection, or with ``HF_HUB_OFFLINE``, what was fetched before is used.

    Args:
        repository: ``org/name``, or ``org/name@revision``.
        output: where to; ``None``: the bundle's own name in the working directory.
        file: which bundle of the repository; needed where it has several.
        trusted_keys: public keys, one of which must have signed it.

    Raises:
        UsageError: the name is none, the output is a file of another kind, or there are several bundles.
        HubError: the hub cannot be reached, or has no such repository, revision or bundle.
        BundleError: the bundle is damaged.
        VerificationError: none of the trusted keys signed it.
    """
    name = repository_name(repository)
    if output is not None:
        check_bundle_output(Path(output))
    require_packages("`pull`", ("huggingface_hub",))
    chosen: List[str] = []

    def choose(paths: Sequence[str]) -> List[str]:
        chosen[:] = [_one_bundle(name, paths, file)]
        return [*chosen, *[path for path in paths if path == CARD]]

    folder = snapshot(name, choose, "read")
    found = folder / chosen[0]
    packed = found.suffix == PACKED
    target = Path(output) if output is not None else Path(found.stem if packed else found.name)
    check_bundle_output(target)
    # The very bytes that will be run are checked, not those of a cache that others may write.
    if packed:
        unpack_bundle(found, target, trusted_keys)
    else:
        with atomic_file(target) as path:
            shutil.copyfile(found, path)
            Bundle.open(path, "full", trusted_keys).close()
    return Pulled(target, folder.name, _pull_card(folder / CARD, card_path(target)))


def _one_bundle(name: HubName, paths: Sequence[str], file: Optional[str]) -> str:
    bundles = sorted(path for path in paths if path.endswith((SUFFIX, SUFFIX + PACKED)))
    if file is not None:
        if file in bundles:
            return file
        there = ", ".join(bundles) or "no bundle"
        raise HubError(
            f"{name} has no bundle {file}; it has {there}", hint="name one of its bundles with --file"
        )
    if not bundles:
        found = ", ".join(sorted(paths)[:6]) or "no files"
        raise HubError(
            f"{name} has no bundle, a file that ends in {SUFFIX}; it has {found}",
            hint="name a repository that `obert-edge push` wrote; a checkpoint is for `obert-edge build`",
        )
    if len(bundles) > 1:
        raise UsageError(
            f"{name} has {len(bundles)} bundles: {', '.join(bundles)}", hint="name one with --file"
        )
    return bundles[0]


def _pull_card(card: Path, target: Path) -> Optional[Path]:
    """Copy a repository's card beside its bundle, unless somebody's own text is there."""
    if not card.is_file() or (target.exists() and not is_ours(target)):
        return None
    with atomic_file(target) as path:
        shutil.copyfile(card, path)
    return target


def _may_write_card(name: HubName) -> bool:
    """Whether the repository has no card, or one that was written here."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError

    try:
        path = hf_hub_download(name.repository, CARD, revision=name.revision)
    except LocalEntryNotFoundError:
        raise
    except (EntryNotFoundError, RevisionNotFoundError):
        return True
    return MARK in Path(path).read_text(encoding="utf-8", errors="replace")
