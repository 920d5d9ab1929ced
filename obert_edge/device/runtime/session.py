"""Running a bundle: arrays in, arrays out; texts in, answers out."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

import numpy as np

from obert_edge.bundle.container import MODULES, PROGRAM, TOKENIZER, Bundle, path_of
from obert_edge.bundle.manifest import Manifest
from obert_edge.bundle.program import Domain, Program
from obert_edge.bundle.signature import Key
from obert_edge.device.pipelines import Prediction, create_pipeline
from obert_edge.device.pipelines.classification import Regression
from obert_edge.device.pipelines.feature_extraction import Embedder
from obert_edge.device.pipelines.modules import Modules
from obert_edge.device.pipelines.quantized_embeddings import check_precision, quantize_embeddings
from obert_edge.device.pipelines.ranking import (
    DOCUMENT_PROMPTS,
    QUERY_PROMPTS,
    prompt_for,
    ranked,
    similarities,
)
from obert_edge.device.progress import silent
from obert_edge.device.runtime.batching import Packer
from obert_edge.device.runtime.board import default_cache_bytes, default_threads, find_board
from obert_edge.device.runtime.float_mode import ieee_arithmetic
from obert_edge.device.runtime.library import find_library
from obert_edge.device.runtime.native import MOST_THREADS, Library, NativeModel, Packed, PackedBatch
from obert_edge.device.runtime.preflight import check_outputs, require_memory
from obert_edge.device.runtime.results import Results
from obert_edge.device.runtime.turns import Turns
from obert_edge.device.tokenizers.tokenizer import Encoding, Tokenizer
from obert_edge.errors import InputError, UsageError


def load(
    path: Union[str, Path],
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
    verify: str = "checksums",
    cache_bytes: Optional[int] = None,
    trusted_keys: Optional[Sequence[Key]] = None,
) -> Session:
    """Open a bundle, ready to run.

    Args:
        path: the ``.oeb`` file.
        threads: threads to compute with; ``None``: as many CPUs as this process may use (its affinity and its
            container's quota count, and cores that are too slow beside the others do not), and on a board
            that the bundle knows at most the number it gives.
        implementation: name of the kernels, for instance ``"avx2"`` or ``"scalar"``; ``None``: that of
            ``$OBERT_EDGE_IMPLEMENTATION`` if it is set, else the best this CPU runs.
        verify: what to check of the file. ``"checksums"``: the CRC-32 that it has of every member, which
            finds any damage; ``"full"``: the cryptographic hash that its manifest has of every member instead
            (slower); ``"header"``: as ``"checksums"``, but not of the weights.
        cache_bytes: second-level cache that each thread has while all work; linears with more weights are
            computed in tiles that fit it. 0: no tiles; ``None``: what the bundle says of this board.
            Results do not depend on it.
        trusted_keys: public keys, one of which must have signed the bundle: texts such as ``ed25519:...`` or
            the ``.pub`` files of ``obert-edge keygen``. Every member is then checked as by ``"full"``, before
            anything of the bundle is run. ``None``: whether it is signed does not count.

    Returns:
        A session; close it, or use it as a context manager, to give memory and threads back.

    Raises:
        BundleError: no such file, not a bundle, truncated, altered, or of a newer format.
        UnsupportedDeviceError: the bundle is for another CPU, the implementation cannot run on this one, or
            there is not enough memory.
        UsageError: ``path`` is none, ``threads``, ``verify`` or ``cache_bytes`` is out of range, or a key is
            no public key.
        VerificationError: none of the trusted keys signed it.
    """
    asked = (threads, implementation, verify, cache_bytes, trusted_keys)
    _check_number("threads", threads, 1, MOST_THREADS)
    _check_number("cache_bytes", cache_bytes, 0, sys.maxsize)
    path = path_of(path)
    # Asked before the file is read: one that changes meanwhile is loaded once too often, and never too late.
    state = _file_state(path)
    # The weights are checked below, by the library.
    by_library = verify == "checksums" and trusted_keys is None
    bundle = Bundle.open(path, "header" if by_library else verify, trusted_keys)
    try:
        board = find_board(bundle.manifest.boards)
        threads = default_threads(board) if threads is None else threads
        cache_bytes = default_cache_bytes(board) if cache_bytes is None else cache_bytes
        library = find_library(bundle)
        require_memory(bundle)
        if by_library:
            bundle.check_weights(library.crc32)
        model = library.open(
            bytes(bundle.member(PROGRAM)),
            bundle.weights,
            threads=threads,
            implementation=implementation,
            cache=cache_bytes,
        )
        check_outputs(bundle, model.program)
        session = Session(bundle, library, model, threads, cache_bytes)
        session._source = _Source(functools.partial(load, path, *asked), state)
        return session
    except BaseException:
        bundle.close()
        raise


#: Types of task that :meth:`Session.encode` and :meth:`Session.rank` know.
_EMBEDDER, _RERANKER = "encoder", "sequence-classification"


def _listed(name: str, texts: Any) -> List[Any]:
    """A list of what was given as many texts."""
    if isinstance(texts, (str, bytes, Mapping)) or not hasattr(texts, "__iter__"):
        raise InputError(f"{name} is {type(texts).__name__}; expected a list of texts", hint="pass a list")
    return list(texts)


def _only_score(answer: Prediction) -> float:
    """The one number of a classifier with one output, whatever its type of problem."""
    scores = answer.values if isinstance(answer, Regression) else getattr(answer, "scores")  # noqa: B009
    return float(next(iter(scores.values())))


def _print_progress(what: str, done: int, total: int) -> None:
    if sys.stderr is None:  # a process without one
        return
    sys.stderr.write(f"\r{what} {done} of {total} texts" + "\n" * (done == total))
    sys.stderr.flush()


def _check_number(name: str, value: Optional[int], smallest: int, largest: Optional[int] = None) -> None:
    """Refuse what is no whole number in a range; None: it is not given, or the range is open."""
    if value is None:
        return
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < smallest
        or (largest is not None and value > largest)
    ):
        to = "" if largest is None else f" to {largest}"
        raise UsageError(
            f"{name} is {value!r}; expected a whole number from {smallest}{to}", hint="leave it out"
        )


#: What tells a file from the one that was at its path before: device, inode, bytes, nanoseconds.
_FileState = Tuple[int, int, int, int]


def _file_state(path: Path) -> Optional[_FileState]:
    """The state of a file; ``None`` where there is none that can be asked."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Source(NamedTuple):
    """Where a session comes from: what loads it again, and the state of the file when it was loaded."""

    load: functools.partial[Session]
    state: Optional[_FileState]


#: The sessions of this process.
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    """Give each session new turns in a fork: a thread that had one is not there to end it."""
    for session in list(_sessions):
        session._turns = Turns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass
class RecordedProfile:
    """What :meth:`Session.profiling` measured; empty until its ``with`` block ends.

    Attributes:
        nanoseconds: of each op of the program, in its order, summed over all runs.
        runs: how many there were.
    """

    nanoseconds: List[int] = field(default_factory=list)
    runs: int = 0


class Session:
    """A loaded bundle; made by :func:`load`. Its methods may be called from several threads: they take turns.

    A turn goes to the thread that waits longest, so one that calls without a pause keeps no other out.

    A fork of the process may go on with it, on as many threads of its own: a server may load once and fork.

    Attributes:
        manifest: what the bundle says about itself.
        threads: threads it computes with.
        cache_bytes: second-level cache per thread that linears are cut into tiles for; 0: no tiles.
        library: the engine it runs on.
    """

    def __init__(
        self, bundle: Bundle, library: Library, model: NativeModel, threads: int, cache_bytes: int = 0
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.threads = threads
        self.cache_bytes = cache_bytes
        self.library = library
        self._bundle = bundle
        self._model = model
        self._turns = Turns()
        #: What each thread asks for runs, as ``poll``.
        self._asking = threading.local()
        _sessions.add(self)
        self._source: Optional[_Source] = None
        self._tokenizer: Optional[Tokenizer] = None
        self._modules: Optional[Modules] = None
        program = model.program
        self._packer = Packer(library, bundle.manifest.model, uses_first_token=program.uses_first_token)
        self._per_token = [program.buffers[op.input].domain is Domain.TOKENS for op in program.outputs]

    @property
    def path(self) -> Path:
        """The bundle's file."""
        return self._bundle.path

    @property
    def program(self) -> Program:
        """The compiled graph."""
        return self._model.program

    @property
    def implementation(self) -> str:
        """Name of the kernels in use."""
        return self._model.implementation

    @property
    def arena_bytes(self) -> int:
        """Bytes that activations take now.

        They grow with the largest batch. When 64 runs in a row took less than a quarter of them, the rest is
        given back to the system; :meth:`trim` gives back all at once.
        """
        return self._model.arena_bytes

    def trim(self) -> None:
        """Give the memory of activations back to the system, after a large batch that no others will follow.

        The next run takes what it needs, and gives the same bits. The weights stay. With the engine of a
        bundle that was built by an older version nothing happens.
        """
        self._turns.take(self._model.trim)

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, read when first asked for.

        Raises:
            BundleError: the bundle has none.
            UnsupportedDeviceError: it needs the ``tokenizers`` library, which is not installed.
        """
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(bytes(self._bundle.member(TOKENIZER)))
        return self._tokenizer

    @property
    def modules(self) -> Modules:
        """What :meth:`encode` computes behind the program, read when first asked for.

        Raises:
            BundleError: their weights are missing, or not what the manifest implies.
        """
        if self._modules is None:
            data = bytes(self._bundle.member(MODULES)) if MODULES in self._bundle else b""
            self._modules = Modules.read(self.manifest.task.modules, data)
        return self._modules

    def run(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None
    ) -> Dict[str, np.ndarray]:
        """Run token ids through the model.

        Args:
            input_ids: integers ``[B, S]`` (or ``[S]``: a batch of one).
            attention_mask: 0 or 1 (or bool), the same shape; ``None``: all 1. Masked tokens cost nothing.
            token_type_ids: integers, the same shape; ``None``: all 0.

        Returns:
            Float32 arrays by name, with the batch as first axis: ``logits`` ``[B, labels]`` or
            ``[B, S, labels]``, ``start_logits`` and ``end_logits`` ``[B, S]``, and so on. Per-token results
            are 0 where the mask is 0. They are what the program gives: an embedding is not yet divided by its
            length, nor has it passed other modules of the model; :meth:`encode` and :meth:`predict` do both.

        Raises:
            InputError: ids out of range, a sequence too long, shapes that differ, a dtype that is no integer,
                an empty batch, a row without a token, or column 0 masked where the model reads it.
        """
        inputs = self._packer.pack(input_ids, attention_mask, token_type_ids)
        return dict(self._results(inputs))

    def run_packed(self, batch: Union[PackedBatch, Packed]) -> List[np.ndarray]:
        """Run sequences that are packed one behind the other, without padding.

        Args:
            batch: the tokens; positions are rows of the model's position table.

        Returns:
            Float32 ``[tokens or sequences, channels]`` for each of the manifest's outputs, in order.

        Raises:
            InputError: ids, positions, token types or lengths out of range.
        """
        return self._turns.take(self._model.run, batch, getattr(self._asking, "poll", None))

    @contextlib.contextmanager
    def polling(self, poll: Callable[[], None]) -> Iterator[None]:
        """Let a function end the runs that this thread begins inside the ``with`` block.

        Args:
            poll: called before each run, and about ten times a second while it lasts; what it raises ends the
                run, which raises it. The engine of a bundle that was built by an older version does not ask
                during a run.
        """
        before = getattr(self._asking, "poll", None)
        self._asking.poll = poll
        try:
            yield
        finally:
            self._asking.poll = before

    def run_encodings(self, encodings: Sequence[Encoding]) -> Results:
        """Pad tokenized texts to one length and run them.

        Args:
            encodings: of the tokenizer, at least one.

        Returns:
            The same as :meth:`run`, each array made when it is asked for.
        """
        shape = (len(encodings), max(map(len, encodings)))
        ids = np.full(shape, self.manifest.model.pad_id, np.int32)
        mask = np.zeros(shape, bool)
        types = np.zeros(shape, np.int32)
        for row, encoding in enumerate(encodings):
            length = len(encoding)
            ids[row, :length] = encoding.ids
            mask[row, :length] = True
            types[row, :length] = encoding.type_ids
        # RoBERTa's tokenizer and models without token types have no use for them.
        has_types = self.manifest.model.type_vocabulary > 1
        return self._results(self._packer.pack(ids, mask, types if has_types else None))

    @ieee_arithmetic()
    def predict(self, inputs: Any, **options: Any) -> Any:
        """Answer the bundle's task for texts.

        Args:
            inputs: a text; a pair ``(text, text)`` or ``(question, context)``; a dict of them
                (``{"question": ..., "context": ...}`` or ``{"text": ..., "text_pair": ...}``); or a list of
                any of these.
            **options: the fields of the task's pipeline in ``obert_edge.device.pipelines``, for instance
                ``top_k`` or ``stride``.

        Returns:
            A :class:`~obert_edge.device.pipelines.Prediction`, or a list of them for a list: for
            classification label, score (0..1), scores and logits; for question answering text, score, and
            ``start`` and ``end`` in characters of the context; for token classification entities; for masked
            language modeling candidates; for an encoder a float32 vector, the one that :meth:`encode` gives.

        Raises:
            InputError: an input is of another kind than the task takes.
            UsageError: an option the task does not have.
            BundleError: the bundle carries no tokenizer.
            UnsupportedDeviceError: its tokenizer needs the ``tokenizers`` library, which is not installed.
        """
        pipeline = create_pipeline(self.manifest, self.tokenizer, self, options)
        if isinstance(inputs, list):
            return pipeline.predict([pipeline.read(item) for item in inputs])
        predictions: List[Prediction] = pipeline.predict([pipeline.read(inputs)])
        return predictions[0]

    @ieee_arithmetic()
    def encode(
        self,
        texts: Any,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        normalize_embeddings: Optional[bool] = None,
        truncate_dim: Optional[int] = None,
        batch_size: int = 32,
        precision: str = "float32",
        show_progress: bool = False,
    ) -> np.ndarray:
        """Embeddings of texts, as ``SentenceTransformer.encode`` gives them for the same model.

        Args:
            texts: a text, or a list (tuple, array) of them; texts longer than the model takes are cut.
            prompt_name: name of the model's prompt to put before every text; ``None``: its default, if any.
            prompt: a text to put before every text, which counts more than ``prompt_name``.
            normalize_embeddings: divide by the Euclidean length, after truncation; a model that does so
                itself does it in any case.
            truncate_dim: how many numbers of each embedding to keep; ``None``: as the model says, else all.
            batch_size: texts to run at once; they run in the order of their lengths.
            precision: ``float32``, ``int8``, ``uint8``, ``binary`` or ``ubinary``; the ranges of int8 and
                uint8 are taken from the embeddings of these very texts. Two lots of embeddings can be
                compared only with the same ranges: give those to ``quantize_embeddings`` of
                ``obert_edge.device.pipelines.quantized_embeddings``, with float32 embeddings.
            show_progress: print how far it is, on stderr.

        Returns:
            ``[n, channels]`` of the precision's dtype, float32 unless asked otherwise; ``[channels]`` for a
            single text.

        Raises:
            UsageError: the bundle is no encoder, or has no such prompt; an argument is out of range.
            InputError: something is no text; or the ranges of a single embedding are asked for.
            BundleError: the bundle carries no tokenizer.
            UnsupportedDeviceError: its tokenizer needs the ``tokenizers`` library, which is not installed.
        """
        check_precision(precision)
        pipeline = self._embedder(
            normalize=True if normalize_embeddings else None,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_dim=truncate_dim,
        )
        single = isinstance(texts, str)
        items = [pipeline.read(item) for item in _listed("texts", [texts] if single else texts)]
        vectors = pipeline.embed(items, batch_size, _print_progress if show_progress else silent)
        vectors = quantize_embeddings(vectors, precision)
        return vectors[0] if single else vectors

    def encode_query(self, texts: Any, **options: Any) -> np.ndarray:
        """:meth:`encode` with the model's prompt ``query``, if it has one and no other is asked for."""
        return self._encode_as(QUERY_PROMPTS, texts, options)

    def encode_document(self, texts: Any, **options: Any) -> np.ndarray:
        """:meth:`encode` with the model's prompt ``document``, ``passage`` or ``corpus``, if it has one."""
        return self._encode_as(DOCUMENT_PROMPTS, texts, options)

    @ieee_arithmetic()
    def similarity(self, left: Any, right: Any) -> np.ndarray:
        """How alike embeddings are, by the function the model names, else by their cosine.

        Args:
            left: float ``[n, channels]``, or one embedding ``[channels]``.
            right: float ``[m, channels]`` or ``[channels]``.

        Returns:
            Float32 ``[n, m]``; more is more alike.

        Raises:
            InputError: they are no embeddings, or have different channels.
        """
        return similarities(self.manifest.task.similarity, np.asarray(left), np.asarray(right))

    @ieee_arithmetic()
    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: Optional[int] = None,
        return_documents: bool = False,
        prompt_name: Optional[str] = None,
        prompt: Optional[str] = None,
        batch_size: int = 32,
    ) -> List[Dict[str, Any]]:
        """Documents in the order in which they answer a query.

        A reranker reads the query with every document, as ``CrossEncoder.rank`` does. An embedder compares
        the embeddings of :meth:`encode_query` and :meth:`encode_document` by :meth:`similarity`.

        Args:
            query: a text.
            documents: texts.
            top_k: how many to give; ``None``: all.
            return_documents: whether to give their texts, too.
            prompt_name: the prompt of the query; ``None``: the model's default, and ``query`` for an embedder
                that has it.
            prompt: a text to put before the query, which counts more than ``prompt_name``.
            batch_size: documents to embed at once.

        Returns:
            The best first: ``corpus_id`` (the place among ``documents``), ``score``, and ``text`` if it is
            asked for.

        Raises:
            UsageError: the bundle is neither, or has no such prompt; ``top_k`` or ``batch_size`` is out of
                range.
            InputError: something is no text.
        """
        _check_number("top_k", top_k, 1)
        _check_number("batch_size", batch_size, 1)
        texts = _listed("documents", documents)
        for text in (query, *texts):
            if not isinstance(text, str):
                raise InputError(
                    f"a text to rank is {type(text).__name__}; expected str",
                    hint="pass a text and a list of texts",
                )
        prompts = {"prompt_name": prompt_name, "prompt": prompt}
        if self.manifest.task.type == _RERANKER:
            scores = self._pair_scores(query, texts, prompts)
        else:
            left = self.encode_query(query, batch_size=batch_size, **prompts)
            right = self.encode_document(texts, batch_size=batch_size)
            scores = [float(score) for score in self.similarity(left, right)[0]]
        return ranked(scores, texts, top_k, return_documents)

    def _embedder(self, **options: Any) -> Embedder:
        task = self.manifest.task.type
        if task != _EMBEDDER:
            raise UsageError(
                f"this bundle's task is {task}; embeddings need one of an encoder",
                hint="use `Session.predict`, or build the model with task='encoder'",
            )
        pipeline = create_pipeline(self.manifest, self.tokenizer, self, options)
        assert isinstance(pipeline, Embedder)
        return pipeline

    def _encode_as(self, names: Sequence[str], texts: Any, options: Dict[str, Any]) -> np.ndarray:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            options = {**options, "prompt_name": prompt_for(self.manifest.task, names)}
        return self.encode(texts, **options)

    def _pair_scores(self, query: str, documents: Sequence[str], prompts: Dict[str, Any]) -> List[float]:
        """What a reranker gives for each document."""
        outputs = self.manifest.outputs[0].channels
        if outputs != 1:
            raise UsageError(
                f"this bundle gives {outputs} classes; ranking needs a model with one output, or an encoder",
                hint="use `Session.predict` with pairs of texts",
            )
        answers = self.predict([(query, document) for document in documents], **prompts)
        return [_only_score(answer) for answer in answers]

    def reload(self) -> Session:
        """The bundle that is at the path now: this very session, or a new one where the file has changed.

        The new one is loaded and checked as this one was, with the same arguments, trusted keys included.
        This one stays open and as it is: threads that are in a call of it end that call with the older
        bundle, and where the new file is refused it goes on. Its memory is given back when nobody refers to
        it any more, so a server holds one reference and writes ``server.session = server.session.reload()``.

        Raises:
            ObertEdgeError: as :func:`load`, for the file that is there now.
        """
        return self if _file_state(self.path) == self._loaded.state else self._loaded.load()

    def loader(self) -> Callable[[], Session]:
        """What opens the file of this session once more, with the arguments of :func:`load` that it had.

        It holds nothing of the session, and can be pickled: another process has the same checks, trusted keys
        included, before anything of the file is run.
        """
        path, *asked = self._loaded.load.args
        return functools.partial(load, Path(path).absolute(), *asked)

    @property
    def _loaded(self) -> _Source:
        assert self._source is not None  # set by load, which alone makes sessions
        return self._source

    @contextlib.contextmanager
    def profiling(self) -> Iterator[RecordedProfile]:
        """Measure each op of the runs inside the ``with`` block."""
        recorded = RecordedProfile()
        self._model.start_profile()
        try:
            yield recorded
        finally:
            self._model.stop_profile()
            nanoseconds, recorded.runs = self._model.profile()
            recorded.nanoseconds = [int(value) for value in nanoseconds]

    def close(self) -> None:
        """Give memory and threads back; the session cannot run any more."""

        def close_both() -> None:
            self._model.close()
            self._bundle.close()

        self._turns.take(close_both)

    def __enter__(self) -> Session:
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the memory and the threads are this process's own."""
        raise TypeError(
            "a Session cannot be pickled or copied: it holds memory and threads of its process. Send the "
            f"path instead, and open it there: obert_edge.load({str(self.path)!r})"
        )

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _results(self, inputs: Packed) -> Results:
        """Run a packed batch."""
        found: Dict[str, Union[np.ndarray, Callable[[], np.ndarray]]] = {}
        for facts, per_token, rows in zip(self.manifest.outputs, self._per_token, self.run_packed(inputs)):
            spread = functools.partial(_spread, inputs, rows, facts.is_squeezed)
            found[facts.name] = spread if per_token else rows
        return Results(found)


def _spread(inputs: Packed, rows: np.ndarray, is_squeezed: bool) -> np.ndarray:
    """Rows of tokens in their places of the padded batch, ``[B, S, channels]``; of one channel ``[B, S]``."""
    placed = inputs.unpack(rows)
    return placed[..., 0] if is_squeezed else placed
