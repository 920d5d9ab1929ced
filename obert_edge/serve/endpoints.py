"""What the server computes: a request in, JSON values out; HTTP is in ``app``."""

from __future__ import annotations

import asyncio
import base64
import functools
import secrets
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

import numpy as np

from obert_edge.device.pipelines import Prediction
from obert_edge.device.pipelines.base import WindowedPipeline
from obert_edge.device.pipelines.classification import Classification, MultiLabel, Regression
from obert_edge.device.pipelines.ranking import ranked, similarities
from obert_edge.device.tokenizers.tokenizer import Encoding
from obert_edge.errors import InputError
from obert_edge.serve import bodies
from obert_edge.serve.batcher import Batcher, Work
from obert_edge.serve.helper import Helper
from obert_edge.serve.models import EMBEDDINGS, OTHER, Answerer, Model, Shelf
from obert_edge.serve.refusal import RefusedError, bad
from obert_edge.serve.settings import Settings

T = TypeVar("T")
#: Waits until the client of a request is gone.
Disconnected = Callable[[], Awaitable[None]]
#: Characters that are cut into tokens, and numbers that are written, without leaving the event loop: more
#: would keep other requests waiting.
_FEW_CHARACTERS, _FEW_NUMBERS = 4096, 16384


class Endpoints:
    """Answers requests with the models of a shelf.

    Args:
        shelf: the models.
        batcher: what runs them.
        settings: of the server.
    """

    def __init__(self, shelf: Shelf, batcher: Batcher, settings: Settings) -> None:
        self._shelf = shelf
        self._batcher = batcher
        self._settings = settings
        # Long texts are cut here, beside the event loop and the engine.
        self._helper = Helper("obert-edge-texts")

    def close(self) -> None:
        """End the thread that cuts long texts, after the text under way."""
        self._helper.shutdown(wait=False, cancel_futures=True)

    async def embeddings(self, body: Mapping[str, Any], gone: Disconnected) -> Dict[str, Any]:
        """``POST /v1/embeddings``, as OpenAI has it.

        Raises:
            RefusedError: the request cannot be answered, and why.
        """
        request = bodies.embedding_request(body)
        model, vectors, tokens = await self._embed(request, gone, "input")
        write = functools.partial(_written, vectors, request.base64)
        listed = await self._beside(write, _numbers(vectors), _FEW_NUMBERS)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(listed)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": model.name, "usage": usage}

    async def embed(self, body: Mapping[str, Any], gone: Disconnected) -> List[Any]:
        """``POST /embed``, as TEI has it.

        Raises:
            RefusedError: the request cannot be answered, and why.
        """
        _, vectors, _ = await self._embed(bodies.embed_request(body), gone, "inputs")
        write = functools.partial(_written, vectors, False)
        return await self._beside(write, _numbers(vectors), _FEW_NUMBERS)

    async def rerank(self, body: Mapping[str, Any], gone: Disconnected) -> Any:
        """``POST /rerank``, as Cohere, Jina and TEI have it.

        Raises:
            RefusedError: the request cannot be answered, and why.
        """
        request = bodies.rerank_request(body)
        self._check_count(request.field, len(request.documents))
        model = self._model(request.model, lambda one: one.ranks, "rerank", _RANKS)
        if model.kind == EMBEDDINGS:
            scores, tokens = await self._similarities(model, request, gone)
        else:
            scores, tokens = await self._pair_scores(model, request, gone)
        order = ranked(scores, request.documents, request.top_n, request.return_documents)
        if request.is_tei:
            texts = [{"text": one["text"]} if request.return_documents else {} for one in order]
            return [
                {"index": one["corpus_id"], "score": one["score"], **text} for one, text in zip(order, texts)
            ]
        results = []
        for one in order:
            results.append({"index": one["corpus_id"], "relevance_score": one["score"]})
            if request.return_documents:
                results[-1]["document"] = {"text": one["text"]}
        return {
            "id": f"rerank-{secrets.token_hex(8)}",
            "model": model.name,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    async def predict(self, body: Mapping[str, Any], gone: Disconnected) -> Any:
        """``POST /predict``, as TEI has it; for other tasks than classification, what ``predict`` gives.

        Raises:
            RefusedError: the request cannot be answered, and why.
        """
        request = bodies.predict_request(body)
        self._check_count("inputs", len(request.inputs))
        model = self._model(request.model, lambda one: one.kind != EMBEDDINGS, "predict", _PREDICTS)
        answers: List[Any]
        if model.kind == OTHER:
            answers = await self._other(model, request, gone)
        else:
            predictions, _ = await self._classify(
                model, request.inputs, request.truncate, request.parameters, gone, "inputs"
            )
            answers = [_labels(one, request.raw_scores) for one in predictions]
        return answers[0] if request.is_single else answers

    def _model(self, name: Optional[str], serves: Callable[[Model], bool], what: str, needs: str) -> Model:
        """The model of a request, which has to be able to answer it."""
        if name is not None:
            model = self._shelf.get(name)
            if model is None:
                known = ", ".join(map(repr, self._shelf.names))
                raise RefusedError(
                    404,
                    f"there is no model {_cut(name)!r} here; there is {known}",
                    code="model_not_found",
                    param="model",
                )
        else:
            able = [one for one in self._shelf if serves(one)] or list(self._shelf)
            if len(able) > 1:
                known = ", ".join(repr(one.name) for one in able)
                raise bad("model", "missing", f"one of {known}", code="missing_field")
            model = able[0]
        if not serves(model):
            raise RefusedError(
                400,
                f"{model.name!r} is a bundle for {model.task}, and {what} needs {needs}; it answers "
                f"{', '.join(model.endpoints)}",
                code="unsupported_endpoint",
                param="model",
            )
        return model

    async def _embed(
        self, request: bodies.EmbeddingRequest, gone: Disconnected, field: str
    ) -> Tuple[Model, List[np.ndarray], int]:
        """The vectors of a request, each float32 ``[channels]``, and how many tokens they took."""
        self._check_count(field, len(request.inputs))
        model = self._model(request.model, lambda one: one.kind == EMBEDDINGS, "embeddings", _EMBEDS)
        dimensions = request.dimensions
        if dimensions is not None and dimensions > model.channels:
            raise bad("dimensions", str(dimensions), f"at most the {model.channels} of {model.name!r}")
        normalize = request.normalize
        if normalize is None and dimensions is not None and model.manifest.task.normalize:
            # A vector that is cut is as long as the whole ones again, as with OpenAI's own models.
            normalize = True
        options: Dict[str, Any] = {"truncate_dim": dimensions, "normalize": normalize}
        if request.role is not None:
            options.update(_role_options(model, request.role))
        else:
            options.update(prompt_name=request.prompt_name, prompt=request.prompt)
        answerer = await self._answerer(model, len(request.inputs), model.options(options))
        is_text = [isinstance(one, str) for one in request.inputs]
        if not all(is_text) and (request.prompt or request.prompt_name or request.role):
            raise bad(field, "lists of token ids", "texts, where a prompt is asked for")
        encodings = await self._tokenized(model, answerer, request.inputs, request.truncate, field)
        lots = [(answerer, [one for one, text in zip(encodings, is_text) if text])]
        if not all(is_text):
            # No prompt is put before ids, so that pooling must not leave one out.
            answerer = model.answerer(**{**options, "prompt_name": None, "prompt": ""})
            lots.append((answerer, [one for one, text in zip(encodings, is_text) if not text]))
        answers = await self._run(model, lots, gone)
        of_texts, of_ids = iter(answers[0]), iter(answers[-1])
        vectors = [next(of_texts if text else of_ids) for text in is_text]
        return model, vectors, sum(map(len, encodings))

    async def _similarities(
        self, model: Model, request: bodies.RerankRequest, gone: Disconnected
    ) -> Tuple[List[float], int]:
        """How alike query and documents are by their embeddings, and how many tokens they took."""
        lots = []
        for role, texts in (("query", [request.query]), ("document", request.documents)):
            answerer = model.answerer(**_role_options(model, role))
            field = "query" if role == "query" else request.field
            lots.append((answerer, await self._tokenized(model, answerer, texts, request.truncate, field)))
        answers = await self._run(model, lots, gone)
        name = model.manifest.task.similarity
        scores = similarities(name, np.stack(answers[0]), np.stack(answers[1]))[0]
        return list(map(float, scores)), sum(len(one) for _, lot in lots for one in lot)

    async def _pair_scores(
        self, model: Model, request: bodies.RerankRequest, gone: Disconnected
    ) -> Tuple[List[float], int]:
        """What a reranker gives for the query and each document, and how many tokens they took."""
        pairs = [(request.query, document) for document in request.documents]
        predictions, tokens = await self._classify(model, pairs, request.truncate, {}, gone, request.field)
        scores = [_named(one, request.raw_scores) for one in predictions]
        return [next(iter(one.values())) for one in scores], tokens

    async def _classify(
        self,
        model: Model,
        inputs: Sequence[Any],
        truncate: Optional[bool],
        parameters: Mapping[str, Any],
        gone: Disconnected,
        field: str,
    ) -> Tuple[List[Prediction], int]:
        answerer = await self._answerer(model, len(inputs), model.options(parameters))
        encodings = await self._tokenized(model, answerer, inputs, truncate, field)
        answers = await self._run(model, [(answerer, encodings)], gone)
        return answers[0], sum(map(len, encodings))

    async def _other(
        self, model: Model, request: bodies.PredictRequest, gone: Disconnected
    ) -> List[Dict[str, Any]]:
        """What the pipeline of any other task gives; it makes windows of long texts and runs them itself."""
        pipeline = model.answerer(**request.parameters).pipeline
        if isinstance(pipeline, WindowedPipeline):
            _check_stride(request.parameters.get("stride"), pipeline.window_length)
        items = [pipeline.read(one) for one in request.inputs]

        def count() -> int:
            tokens = characters = 0
            for text, pair in items:
                # What is too long need not be cut into tokens to its end.
                enough = self._settings.max_request_tokens - tokens + 1
                tokens += pipeline.count_tokens(text, pair, max(enough, _FEWEST_TOKENS))
                self._check_tokens(tokens, "windows of a long text share tokens, which count in each")
                characters += pipeline.answer_characters(text, pair)
                _check_answer(characters, _LARGEST_ANSWER * self._settings.max_body_bytes)
            return tokens

        tokens = await self._beside(count, _characters(items), _FEW_CHARACTERS)
        predictions = await self._batcher.run(
            model, whole=functools.partial(pipeline.predict, items), tokens=tokens, disconnected=gone
        )
        return [one.to_dict() for one in predictions]

    async def _answerer(self, model: Model, texts: int, options: Mapping[str, Any]) -> Answerer:
        """What answers with these options; a client's prompt before every one of some texts is measured.

        Raises:
            RefusedError: 413: prompts are too long.
            UsageError: as of :meth:`Model.answerer`.
        """
        prompt = options.get("prompt")
        length = len(prompt) if isinstance(prompt, str) else 0
        most = self._settings.max_body_bytes
        if length * texts > most:
            raise RefusedError(
                413,
                f"the prompt has {length} characters, before each of {texts} texts; together such prompts "
                f"may have {most}: send fewer texts, or a shorter prompt",
                code="prompt_too_long",
                param="prompt",
            )
        return await self._beside(functools.partial(model.answerer, **options), length, _FEW_CHARACTERS)

    async def _tokenized(
        self,
        model: Model,
        answerer: Answerer,
        inputs: Sequence[Any],
        truncate: Optional[bool],
        field: str,
    ) -> List[Encoding]:
        """The tokens of texts, pairs or lists of ids, behind the prompt.

        Raises:
            RefusedError: 413: one of them, or all together, are too long; 400: the model has no such ids.
        """
        cut = self._settings.truncate if truncate is None else truncate

        def encode() -> List[Encoding]:
            found = []
            tokens = 0
            for place, one in enumerate(inputs):
                where = f"{field}[{place}]"
                if isinstance(one, list):
                    found.append(_of_ids(model, one, where))
                else:
                    found.append(_of_text(model, answerer, one, cut, where))
                tokens += len(found[-1])
                self._check_tokens(tokens)
            return found

        size = _characters(inputs) + len(answerer.prompt) * len(inputs)
        return await self._beside(encode, size, _FEW_CHARACTERS)

    async def _run(
        self, model: Model, lots: Sequence[Tuple[Answerer, List[Encoding]]], gone: Disconnected
    ) -> List[List[Any]]:
        work = []
        for answerer, encodings in lots:
            assert answerer.reader is not None
            work.append(Work(encodings, answerer.reader))
        answers: List[List[Any]] = await self._batcher.run(model, work, disconnected=gone)
        return answers

    async def _beside(self, function: Callable[[], T], size: int, few: int) -> T:
        """Call a function, beside the event loop where it has much to do."""
        if size <= few:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._helper, function)

    def _check_count(self, field: str, count: int) -> None:
        most = self._settings.max_inputs
        if count > most:
            raise RefusedError(
                413,
                f"{field} has {count} texts; a request may have {most}",
                code="too_many_inputs",
                param=field,
            )

    def _check_tokens(self, tokens: int, note: str = "") -> None:
        most = self._settings.max_request_tokens
        if tokens > most:
            text = f"the request has more tokens than the {most} that it may have"
            raise RefusedError(413, f"{text}; {note}" if note else text, code="too_many_tokens")


#: Characters of an answer, at most, in those that a request may have.
_LARGEST_ANSWER = 8
#: What leaves room beside the special tokens of a pair.
_FEWEST_TOKENS = 16
_EMBEDS = "one of an encoder"
_RANKS = "an encoder, or a classifier with one output"
_PREDICTS = "one of a classifier, tagger, question answerer or masked language model"


def _role_options(model: Model, role: str) -> Dict[str, Any]:
    """Options of ``encode_query`` or ``encode_document``: the prompt of the role, else the default."""
    name = model.role_prompt(role) or model.manifest.task.default_prompt_name
    return {"prompt_name": name} if name else {"prompt": ""}


def _check_stride(stride: Optional[int], window: int) -> None:
    """Refuse windows that share more tokens than they have."""
    if stride is not None and stride >= window:
        expected = f"a number below the {window} tokens of a window"
        raise bad("parameters.stride", str(stride), expected)


def _check_answer(characters: int, most: int) -> None:
    """Refuse a request of some kilobytes that asks for gigabytes."""
    if characters > most:
        raise RefusedError(
            413,
            f"the answer could have {characters} characters; it may have {most}: send a smaller top_k, or "
            "shorter texts",
            code="answer_too_large",
            param="parameters.top_k",
        )


def _of_text(model: Model, answerer: Answerer, given: Any, cut: bool, where: str) -> Encoding:
    text, pair = answerer.pipeline.read(given)
    limit = model.max_length
    # One more than fit: what is too long need not be cut into tokens to its end.
    most = limit if cut else limit + 1
    encoding = model.tokenizer.encode(answerer.prompt + text, pair, max_length=most)
    if len(encoding) > limit:
        raise RefusedError(
            413,
            f"{where} has more tokens than the {limit} that {model.name!r} takes; shorten it, or send "
            '"truncate": true',
            code="text_too_long",
            param=where,
        )
    return encoding


def _of_ids(model: Model, ids: List[int], where: str) -> Encoding:
    """Token ids as they are, those of special tokens included."""
    facts = model.manifest.model
    wrong = next((one for one in ids if not 0 <= one < facts.vocabulary), None)
    if wrong is not None:
        raise RefusedError(
            400,
            f"{where} has the id {wrong}; the tokenizer of {model.name!r} has 0 to "
            f"{facts.vocabulary - 1}; ids of another tokenizer, such as tiktoken's, mean nothing here: send "
            "texts",
            code="invalid_value",
            param=where,
        )
    if len(ids) > facts.max_length:
        raise RefusedError(
            413,
            f"{where} has {len(ids)} tokens; {model.name!r} takes {facts.max_length}",
            code="text_too_long",
            param=where,
        )
    return Encoding(ids, [0] * len(ids), [], [], [])


def _characters(inputs: Sequence[Any]) -> int:
    """Characters of texts, pairs and dicts of texts; ids cost nothing to cut."""
    total = 0
    for one in inputs:
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, tuple):
            total += sum(len(text) for text in one if text)
        elif isinstance(one, dict):
            total += sum(len(text) for text in one.values() if isinstance(text, str))
    return total


def _numbers(vectors: Sequence[np.ndarray]) -> int:
    return len(vectors) * vectors[0].size


def _written(vectors: Sequence[np.ndarray], as_base64: bool) -> List[Union[str, List[float]]]:
    """Vectors as JSON has them. A float32 is a float64 without rounding, so a client gets the same bits."""
    if as_base64:
        return [base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode() for vector in vectors]
    return [vector.tolist() for vector in vectors]


def _named(prediction: Prediction, raw: bool) -> Dict[str, float]:
    """Scores of a classifier's answer by label."""
    if isinstance(prediction, Regression):
        return prediction.logits if raw else prediction.values
    if isinstance(prediction, (Classification, MultiLabel)):
        return prediction.logits if raw else prediction.scores
    raise InputError(f"a {type(prediction).__name__} has no scores", hint="ask for another endpoint")


def _labels(prediction: Prediction, raw: bool) -> List[Dict[str, Any]]:
    """Labels with scores, the best first, as TEI has them."""
    scores = sorted(_named(prediction, raw).items(), key=lambda one: -one[1])
    return [{"label": label, "score": score} for label, score in scores]


def _cut(text: str) -> str:
    """A text of a client as an error may repeat it."""
    return text if len(text) <= 80 else f"{text[:80]}..."
