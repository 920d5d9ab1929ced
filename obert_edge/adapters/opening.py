"""Bundles as objects of other libraries hold them: copied, pickled and sent to other processes."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from obert_edge.bundle.signature import Key
from obert_edge.device.runtime.session import Session, load
from obert_edge.errors import UsageError

#: What an adapter takes for a bundle: its file, or a session that has it open.
BundleLike = Union[str, Path, Session]


class Opened:
    """A bundle that is opened when it is first asked for, and anew in every copy of this object.

    A session has threads and memory of the engine, which no copy can share: a copy, a pickle, or another
    process opens the file again.

    Args:
        bundle: the file, or a session to use as it is; a copy opens its file with the arguments of
            :func:`obert_edge.load` that the session had.
        threads: as for :func:`obert_edge.load`, of a file.
        trusted_keys: the same.
    """

    def __init__(
        self,
        bundle: BundleLike,
        threads: Optional[int] = None,
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> None:
        self._session: Optional[Session] = bundle if isinstance(bundle, Session) else None
        self.path = Path(bundle.path if isinstance(bundle, Session) else bundle).absolute()
        keys = None if trusted_keys is None else list(trusted_keys)
        self._load: Callable[[], Session] = (
            bundle.loader()
            if isinstance(bundle, Session)
            else functools.partial(load, self.path, threads=threads, trusted_keys=keys)
        )
        self._lock = threading.Lock()

    @property
    def session(self) -> Session:
        """The session.

        Raises:
            ObertEdgeError: as :func:`obert_edge.load`.
        """
        with self._lock:
            if self._session is None:
                self._session = self._load()
            return self._session

    def __getstate__(self) -> Dict[str, Any]:
        return {**vars(self), "_session": None, "_lock": None}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def dimension(session: Session, **options: Any) -> int:
    """How many numbers an embedding of a bundle has.

    Args:
        session: of the bundle.
        **options: of :meth:`Session.encode`, such as ``truncate_dim``.

    Raises:
        UsageError: the bundle makes no embeddings, or an option is out of range.
    """
    return int(session.encode([], **options).shape[1])


def require_tagger(session: Session) -> List[str]:
    """The labels of a bundle that finds entities.

    Raises:
        UsageError: its task is another.
    """
    task = session.manifest.task
    if task.type != "token-classification":
        raise UsageError(
            f"the task of {session.path} is {task.type}; entities need one of token-classification",
            hint="use the bundle of a tagger",
        )
    return list(task.labels)
