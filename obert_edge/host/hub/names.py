"""Names on a hub: ``org/model``, ``org/model@revision``, and ``hub:`` before either."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional, Union

from obert_edge.errors import UsageError

#: Says that a name is one of the hub, whatever lies in the working directory.
PREFIX = "hub:"
#: How to write a name, for whoever gave neither a folder that is there nor a name.
HOW_TO_NAME = "the name of a model on a hub is written owner/model, such as google-bert/bert-base-uncased"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^\s@]+))?")
#: A commit as git names it.
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubName(NamedTuple):
    """A repository, and a branch, tag or commit of it.

    Args:
        repository: such as ``org/model``.
        revision: ``None``: its main branch.
    """

    repository: str
    revision: Optional[str] = None

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @property
    def is_pinned(self) -> bool:
        """Whether it names a commit, which never changes."""
        return self.revision is not None and bool(_COMMIT.fullmatch(self.revision))


def hub_name(text: Union[str, Path]) -> Optional[HubName]:
    """The name on a hub that a text is; ``None``: it is a path.

    What lies on this machine counts first: a file or folder of that path makes it a path. A text with
    ``hub:`` before it is always a name.

    Args:
        text: what the user gave for a model.

    Raises:
        UsageError: ``hub:`` stands before something that is no name.
    """
    written = str(text)
    # A path object drops one of two slashes, and never begins with the prefix in earnest.
    forced = written.startswith(PREFIX)
    found = _NAME.fullmatch(written[len(PREFIX) :] if forced else written)
    if found is None:
        if forced:
            raise UsageError(
                f"{written[:80]!r} is no name on a hub; expected {PREFIX}org/model[@revision]",
                hint="write the organization, a slash and the model's name, as on the model's page",
            )
        return None
    if not forced and _exists(written):
        return None
    return HubName(found["repository"], found["revision"])


def repository_name(text: str) -> HubName:
    """The name of a repository to push to or pull from, which is never a path.

    Raises:
        UsageError: it is no name.
    """
    bare = text[len(PREFIX) :] if text.startswith(PREFIX) else text
    found = _NAME.fullmatch(bare)
    if found is None:
        raise UsageError(
            f"{text[:80]!r} is no repository; expected org/name or org/name@revision",
            hint="write the organization or user, a slash and the name",
        )
    return HubName(found["repository"], found["revision"])


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long for a path, or in a folder nobody may read
        return False
