"""The models that are served: each a session with pipelines, exchanged as a whole when its file changes."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from obert_edge.device.pipelines import Pipeline, create_pipeline
from obert_edge.device.pipelines.base import find_prompt
from obert_edge.device.pipelines.classification import Classifier
from obert_edge.device.pipelines.feature_extraction import Embedder
from obert_edge.device.pipelines.ranking import DOCUMENT_PROMPTS, QUERY_PROMPTS, prompt_for
from obert_edge.device.runtime.session import Session, load
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.serve.settings import Settings

log = logging.getLogger("obert_edge.serve")

#: Kinds of answers: by vectors of texts, by logits of texts or pairs, and by whatever else a task gives.
EMBEDDINGS, SCORES, OTHER = "embeddings", "scores", "other"
#: A name before the path of a bundle; a path has no "=" before its first separator.
_NAMED = re.compile(r"([^=]+)=(.+)")
#: Answerers of different options that are kept per model, and characters of the options of one that is kept:
#: a client may send a prompt of megabytes with every request.
_MOST_ANSWERERS, _LONGEST_OPTIONS = 256, 4096
#: Makes answers of what the program gave for some texts: results by name, and the tokens of each text.
Reader = Callable[[Mapping[str, np.ndarray], Sequence[int]], Iterable[Any]]


class Answerer(NamedTuple):
    """A pipeline with options, in the two parts between which texts of several requests run together.

    Args:
        pipeline: of the bundle's task.
        prompt: text before every text.
        reader: makes vectors or predictions of results; ``None``: the pipeline runs the model itself.
    """

    pipeline: Pipeline
    prompt: str
    reader: Optional[Reader]


def _answerer(pipeline: Pipeline) -> Answerer:
    if isinstance(pipeline, Embedder):
        embedder = pipeline
        prompt, skipped = pipeline.prompt_and_tokens()
        return Answerer(
            pipeline,
            prompt,
            lambda results, lengths: embedder.vectors(results, lengths, [skipped] * len(lengths)),
        )
    if isinstance(pipeline, Classifier):
        classifier = pipeline
        prompt = find_prompt(pipeline.manifest.task, pipeline.prompt_name, pipeline.prompt)
        return Answerer(
            pipeline, prompt, lambda results, _: [classifier.read_row(row) for row in results["logits"]]
        )
    return Answerer(pipeline, "", None)


class Model:
    """One bundle, loaded; requests that began with it end with it.

    Args:
        name: that clients call it.
        session: of the bundle.
        default_prompt_name: the prompt where a request says nothing.

    Raises:
        ObertEdgeError: the bundle has no tokenizer, no such prompt, or cannot answer its task.
    """

    def __init__(self, name: str, session: Session, default_prompt_name: Optional[str] = None) -> None:
        self.name = name
        self.session = session
        self.manifest = session.manifest
        self.tokenizer = session.tokenizer
        self.created = int(session.path.stat().st_mtime)
        self._default_prompt_name = default_prompt_name
        self._answerers: Dict[Tuple[Tuple[str, str], ...], Answerer] = {}
        pipeline = self.answerer().pipeline
        self.kind = OTHER
        self.channels = 0
        if isinstance(pipeline, Embedder):
            self.kind = EMBEDDINGS
            self.channels = pipeline.channels
        elif isinstance(pipeline, Classifier):
            self.kind = SCORES
        if isinstance(pipeline, (Embedder, Classifier)):
            # The first run takes memory; and a prompt that the model lacks is found before anybody asks.
            self.session.predict("warm", **self.options({}))
        elif default_prompt_name is not None:
            raise UsageError(
                f"{name}: a bundle for {self.task} has no prompts, and --prompt-name is "
                f"{default_prompt_name!r}",
                hint="leave --prompt-name out",
            )

    @property
    def task(self) -> str:
        """The type of the bundle's task."""
        return self.manifest.task.type

    @property
    def max_length(self) -> int:
        """Tokens of a text, at most."""
        return self.manifest.model.max_length

    @property
    def ranks(self) -> bool:
        """Whether it can put documents in the order in which they answer a query."""
        return self.kind == EMBEDDINGS or (self.kind == SCORES and self.manifest.outputs[0].channels == 1)

    @property
    def endpoints(self) -> List[str]:
        """Paths that it answers."""
        found = ["/v1/embeddings", "/embed"] if self.kind == EMBEDDINGS else ["/predict"]
        return found + ["/rerank"] * self.ranks

    def options(self, given: Mapping[str, Any]) -> Dict[str, Any]:
        """Options of the pipeline: what is given, and the server's prompt where no other is named."""
        found = {name: value for name, value in given.items() if value is not None}
        if self._default_prompt_name is not None and not {"prompt", "prompt_name"} & set(found):
            found["prompt_name"] = self._default_prompt_name
        return found

    def role_prompt(self, role: str) -> Optional[str]:
        """The model's prompt of queries or of documents, as ``encode_query`` finds it; ``None``: it has none.

        Args:
            role: ``query`` or ``document``.
        """
        return prompt_for(self.manifest.task, QUERY_PROMPTS if role == "query" else DOCUMENT_PROMPTS)

    def answerer(self, **options: Any) -> Answerer:
        """What answers with these options, the same one for the same options unless they are very long.

        May be called from several threads.

        Raises:
            UsageError: the task has no such option, or not this value of it.
        """
        key = tuple(sorted((name, repr(value)) for name, value in options.items()))
        found = self._answerers.get(key)
        if found is None:
            pipeline = create_pipeline(self.manifest, self.tokenizer, self.session, options)
            found = _answerer(pipeline)
            if sum(len(name) + len(value) for name, value in key) <= _LONGEST_OPTIONS:
                if len(self._answerers) >= _MOST_ANSWERERS:
                    self._answerers.clear()
                self._answerers[key] = found
        return found

    def facts(self) -> Dict[str, Any]:
        """What ``GET /v1/models`` says of it."""
        task = self.manifest.task
        found: Dict[str, Any] = {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "obert-edge",
            "task": self.task,
            "max_tokens": self.max_length,
            "endpoints": self.endpoints,
        }
        if self.kind == EMBEDDINGS:
            found.update(dimensions=self.channels, prompts=sorted(task.prompts))
        if task.labels:
            found["labels"] = list(task.labels)
        return found


class Shelf:
    """All models that are served, by name.

    Args:
        bundles: paths, each maybe behind a name: ``NAME=PATH``; without one, the file's name less its ending.
        settings: of the server.
        reloaded: told ``"ok"`` or ``"failed"`` for every file that changed.

    Raises:
        ObertEdgeError: a bundle cannot be loaded or served.
        UsageError: two bundles have one name, or there is none.
    """

    def __init__(
        self, bundles: Sequence[str], settings: Settings, reloaded: Callable[[str], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._reloaded = reloaded
        self._models: Dict[str, Model] = {}
        self._refused: Dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()
        paths = _named(bundles)
        for name, path in paths.items():
            session = load(
                path,
                threads=settings.threads,
                implementation=settings.implementation,
                trusted_keys=settings.trusted_keys or None,
            )
            self._models[name] = Model(name, session, settings.prompt_name)

    def __iter__(self) -> Iterator[Model]:
        return iter(list(self._models.values()))

    def get(self, name: str) -> Optional[Model]:
        """The model of that name, or ``None``."""
        return self._models.get(name)

    @property
    def names(self) -> List[str]:
        """Their names, in the order given."""
        return list(self._models)

    def reload(self, *, again: bool = False) -> None:
        """Go over to the files that changed; one that is refused leaves the older model in its place.

        Args:
            again: also try a file that was refused before and has not changed since.
        """
        with self._one_at_a_time:
            for name, model in list(self._models.items()):
                self._reload(name, model, again)

    def _reload(self, name: str, model: Model, again: bool) -> None:
        state = _state(model.session.path)
        if not again and name in self._refused and self._refused[name] == state:
            return
        try:
            session = model.session.reload()
            if session is model.session:
                self._refused.pop(name, None)
                return
            self._models[name] = Model(name, session, self._settings.prompt_name)
        except (ObertEdgeError, OSError) as error:
            self._refused[name] = state
            self._reloaded("failed")
            log.error("%s: the older bundle goes on, because the new one is refused: %s", name, error)
            return
        self._refused.pop(name, None)
        self._reloaded("ok")
        log.info("%s: %s was replaced, and is served from here on", name, session.path)


def _state(path: Path) -> Optional[Tuple[int, ...]]:
    """What tells a file from the one that was there before; ``None`` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _named(bundles: Sequence[str]) -> Dict[str, str]:
    """Paths by the names that clients use."""
    found: Dict[str, str] = {}
    for given in bundles:
        match = None if Path(given).exists() else _NAMED.fullmatch(given)
        name, path = match.groups() if match else (Path(given).stem, given)
        if name in found:
            raise UsageError(
                f"two bundles would be served as {name!r}: {found[name]} and {path}",
                hint="name them, as in `obert-edge serve one=a/model.oeb two=b/model.oeb`",
            )
        found[name] = path
    if not found:
        raise UsageError("there is no bundle to serve", hint="give the path of one")
    return found
