"""What goes wrong with a hub, as errors that say what was found, what was expected and what to do."""

from __future__ import annotations

import contextlib
import errno
from typing import Iterator, List, Optional

from obert_edge.errors import HubError, ObertEdgeError
from obert_edge.host.hub.names import HubName

#: Packages that huggingface_hub has sent its requests with, by version.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def explained(name: HubName, doing: str, *, also: str = "") -> Iterator[None]:
    """Turn what huggingface_hub raises into one of our errors.

    Args:
        name: what is asked for.
        doing: what is being done, such as "read".
        also: what else the text could have meant, such as "there is no folder a/b here, and ".

    Raises:
        HubError: anything about the hub or the way to it.
        ObertEdgeError: the disk of the cache is full.
    """
    try:
        yield
    except ObertEdgeError:
        raise
    except Exception as error:
        ours = _of_the_repository(error, name, also) or _of_the_answer(error, name, doing, also)
        ours = ours or _of_the_way(error, name, doing)
        if ours is None:
            raise
        raise ours from error


def _of_the_repository(error: Exception, name: HubName, also: str) -> Optional[ObertEdgeError]:
    """The error for a repository, revision or file that is not there for this user."""
    from huggingface_hub import errors

    hub = endpoint()
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{hub} gives {name.repository} only to users who accepted its terms (a gated repository)",
            hint=f"accept them at {hub}/{name.repository}, then {_LOG_IN}",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{also}{hub} has no repository {name.repository}, or keeps it private from you",
            hint=f"check the name, or give a folder; for a private repository {_LOG_IN}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        there = _revisions(name)
        known = f"; it has {', '.join(there)}" if there else ""
        return HubError(
            f"{name.repository} has no revision {name.revision or 'main'!r}{known}",
            hint="name a branch, a tag or a whole commit hash after the @, or none for the main branch",
        )
    # Without a connection the cache was looked at; with one, a listed file has gone.
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return unreachable(name, error, also=also)
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(
            f"{name} lacks a file that it listed: {_brief(error)}",
            hint="try again; the repository was changed",
        )
    return None


def _of_the_answer(error: Exception, name: HubName, doing: str, also: str) -> Optional[ObertEdgeError]:
    """The error for an answer that refuses."""
    from huggingface_hub import errors

    if not isinstance(error, errors.HfHubHTTPError):
        return None
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return HubError(
            f"{also}{endpoint()} does not let you {doing} {name.repository} (HTTP {status})", hint=_LOG_IN
        )
    return HubError(
        f"{also}{endpoint()} answered HTTP {status} when asked to {doing} {name}: {_brief(error)}",
        hint="try again later",
    )


def unreachable(name: HubName, error: BaseException, *, also: str = "") -> HubError:
    """Neither the hub nor the cache has it.

    Args:
        name: what was asked for.
        error: why the hub was not.
        also: what else the text could have meant, as for :func:`explained`.
    """
    from huggingface_hub import constants

    cache = constants.HF_HUB_CACHE
    path = "check the path; where a name on the hub is meant, " if also else ""
    folder = "" if also else ", or give a folder"
    if constants.HF_HUB_OFFLINE:
        return HubError(
            f"{also}HF_HUB_OFFLINE is set, and {name} is not whole in the cache {cache}",
            hint=f"{path}unset HF_HUB_OFFLINE and run once with a connection" + folder,
        )
    return HubError(
        f"{also}{endpoint()} could not be reached, and {name} is not whole in the cache {cache}: "
        f"{_brief(error)}",
        hint=f"{path}check the connection and HF_ENDPOINT" + folder,
    )


def endpoint() -> str:
    """The address of the hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that no hub answered, so that the cache is all there is."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return True
    if isinstance(error, errors.HfHubHTTPError):
        return getattr(error.response, "status_code", 0) >= 500
    return _is_transport(error)


def _of_the_way(error: Exception, name: HubName, doing: str) -> Optional[ObertEdgeError]:
    """The error for a connection, a disk or a name that is not right; ``None``: it is none of these."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        from huggingface_hub import constants

        return ObertEdgeError(
            f"the disk is full: {name} was not downloaded whole",
            hint=f"free space on the disk that holds {constants.HF_HUB_CACHE}, or set HF_HOME to another",
        )
    # A download whose size is not the announced one is a plain OSError; where one of several connections
    # breaks, the others find their client closed, which is a RuntimeError.
    if _is_transport(error) or isinstance(error, (OSError, RuntimeError)):
        return HubError(
            f"the connection to {endpoint()} broke while it was asked to {doing} {name}: {_brief(error)}",
            hint="run the same again: what has arrived whole is kept",
        )
    if isinstance(error, ValueError):
        return HubError(
            f"{endpoint()} cannot {doing} {name}: {_brief(error)}", hint="check the name and the files"
        )
    return None


def _is_transport(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _TRANSPORTS or isinstance(
        error, (ConnectionError, TimeoutError)
    )


def _revisions(name: HubName) -> List[str]:
    """Branches and tags of a repository, as far as it tells."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().list_repo_refs(name.repository)
    except Exception:  # it is only for a message
        return []
    return [ref.name for ref in [*found.branches, *found.tags]][:12]


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
