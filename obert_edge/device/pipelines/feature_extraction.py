"""Plain encoders: a text to one vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from obert_edge.bundle.manifest import TOKENS_OUTPUT
from obert_edge.device.pipelines.base import BATCH, Pipeline, Prediction, find_prompt
from obert_edge.device.pipelines.modules import Modules, normalized
from obert_edge.device.progress import Progress, silent
from obert_edge.errors import BundleError, UsageError


@dataclass(frozen=True)
class Embedding(Prediction):
    """A vector that stands for a text.

    Args:
        vector: float32 ``[channels]``.
    """

    vector: np.ndarray


@dataclass(frozen=True)
class Embedder(Pipeline):
    """Texts or pairs to embeddings, made as the manifest says; longer texts are cut.

    What sentence-transformers' ``encode`` gives for the same model, in the same order: the prompt, the
    encoder, pooling and modules, the model's own division by the length, truncation, and then the division by
    the length that the caller asks for.

    Args:
        normalize: divide by the Euclidean length, at the very end; ``False``: not even where the model itself
            does; ``None``: as the model does.
        prompt_name: name of the prompt to put before every text; ``None``: the model's default, if any.
        prompt: a text to put before every text, in place of a named one.
        truncate_dim: how many numbers to keep; ``None``: as the manifest says.
    """

    normalize: Optional[bool] = None
    prompt_name: Optional[str] = None
    prompt: Optional[str] = None
    truncate_dim: Optional[int] = field(default=None, metadata={"minimum": 1})

    #: Texts are embedded to be compared: two of them are two vectors, unless a pair is given as one input.
    SIDE_BY_SIDE: ClassVar[bool] = False

    def predict(self, texts: Sequence[Tuple[str, Optional[str]]]) -> List[Prediction]:
        """One vector per text."""
        return [Embedding(vector) for vector in self.embed(texts)]

    def embed(
        self,
        texts: Sequence[Tuple[str, Optional[str]]],
        batch_size: int = BATCH,
        progress: Progress = silent,
    ) -> np.ndarray:
        """The vectors of texts, which run in the order of their lengths.

        Args:
            texts: texts, or pairs of texts.
            batch_size: texts to run at once.
            progress: told about every batch.

        Returns:
            Float32 ``[n, channels]``.

        Raises:
            InputError: a text does not fit the task, or a prompt leaves nothing to pool.
            UsageError: a prompt name or a number that there is not.
            BundleError: the bundle makes no vectors of texts.
        """
        for name, number in (("truncate_dim", self.truncate_dim), ("batch_size", batch_size)):
            if number is None and name == "truncate_dim":
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise UsageError(f"{name} is {number!r}", hint="pass a whole number from 1")
        prompt, skipped = self.prompt_and_tokens()
        if not texts:
            return np.zeros((0, self.channels), np.float32)
        vectors: Dict[int, np.ndarray] = {}
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i][0]) - len(texts[i][1] or ""))
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            encodings = self.encode((texts[row] for row in rows), prompt)
            lengths = list(map(len, encodings))
            found = self.vectors(self.model.run_encodings(encodings), lengths, [skipped] * len(encodings))
            vectors.update(zip(rows, found))
            progress("encoding", at + len(rows), len(order))
        return np.stack([vectors[row] for row in range(len(texts))])

    def prompt_and_tokens(self) -> Tuple[str, int]:
        """The text to put before every text, and how many of its tokens the pooling leaves out.

        Raises:
            UsageError: the model has no prompt of that name.
        """
        prompt = find_prompt(self.manifest.task, self.prompt_name, self.prompt)
        return prompt, 0 if self._modules().include_prompt or not prompt else self._tokens_of(prompt)

    def vectors(
        self, results: Mapping[str, np.ndarray], lengths: Sequence[int], skipped: Sequence[int]
    ) -> np.ndarray:
        """The embeddings of texts that went through the program.

        Args:
            results: what ``Session.run_encodings`` gave for them, by name.
            lengths: tokens of each.
            skipped: for each the tokens of the prompt at its start that do not count.

        Returns:
            Float32 ``[n, channels]``.

        Raises:
            InputError: a prompt leaves nothing to pool.
            BundleError: the bundle makes no vectors of texts.
        """
        modules = self._modules()
        return self._finish(modules.apply(self._pooled(modules, results, lengths, skipped)))

    def _modules(self) -> Modules:
        return self.model.modules if self.manifest.task.modules else Modules()

    def _pooled(
        self,
        modules: Modules,
        results: Mapping[str, np.ndarray],
        lengths: Sequence[int],
        skipped: Sequence[int],
    ) -> np.ndarray:
        """One vector for each of some texts, before the modules."""
        if modules.pools:
            return modules.pool(results[TOKENS_OUTPUT], lengths, skipped)
        pooled: np.ndarray = np.asarray(results[self._output()], np.float32)
        return pooled

    def _output(self) -> str:
        """Name of the program's pooled output."""
        pooled = [output.name for output in self.manifest.outputs if output.domain == "sequences"]
        if not pooled:
            raise BundleError(
                "this bundle gives one vector per token, not one per text",
                hint="build it with pooling, or use `Session.run`",
            )
        return pooled[0]

    def _kept(self) -> Optional[int]:
        return self.truncate_dim or self.manifest.task.truncate_dim or None

    @property
    def channels(self) -> int:
        """Numbers of an embedding.

        Raises:
            BundleError: the bundle makes no vectors of texts.
        """
        modules = self.manifest.task.modules
        if modules:
            channels = modules[-1].outputs
        else:
            output = self.manifest.output(self._output())
            assert output is not None
            channels = output.channels
        return min(channels, self._kept() or channels)

    def _finish(self, vectors: np.ndarray) -> np.ndarray:
        """Divide by the length and truncate, as the manifest and the caller say."""
        if self.manifest.task.normalize and self.normalize is not False:
            vectors = normalized(vectors)
        vectors = vectors[:, : self._kept()]
        return normalized(vectors) if self.normalize else vectors

    def _tokens_of(self, prompt: str) -> int:
        """Tokens that a prompt takes at the start of a text, the special ones before it included."""
        ids = self.tokenizer.encode(prompt, max_length=self.manifest.model.max_length).ids
        return len(ids) - (ids[-1] in self.tokenizer.special_ids)
