"""What a request may hold: JSON bodies read into typed records, or refused with the field that is wrong.

Fields that nobody here knows are ignored, because clients send some (``user``, ``max_chunks_per_doc``) that
mean nothing to an encoder.
"""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Tuple, Union

import orjson

from obert_edge.serve.refusal import RefusedError, bad

#: A text, or the ids of its tokens.
TextOrIds = Union[str, List[int]]
ROLES = ("query", "document")
FORMATS = ("float", "base64")
#: Other words for the roles, as other protocols have them.
_ROLE_WORDS = {
    "search_query": "query",
    "search_document": "document",
    "passage": "document",
    "retrieval.query": "query",
    "retrieval.passage": "document",
}


class EmbeddingRequest(NamedTuple):
    """Texts to embed, and how.

    Args:
        model: name, if the request has one.
        inputs: texts, or lists of token ids.
        is_single: whether it was one text and no list; only TEI's protocol tells the difference.
        base64: whether vectors are wanted as base64 of little-endian float32.
        dimensions: how many numbers of each vector to keep.
        normalize: divide by the length (or, ``False``, not even where the model does).
        prompt_name: of the model.
        prompt: the text of one.
        role: one of :data:`ROLES`.
        truncate: whether texts that are too long are cut.
    """

    model: Optional[str]
    inputs: List[TextOrIds]
    is_single: bool
    base64: bool
    dimensions: Optional[int]
    normalize: Optional[bool]
    prompt_name: Optional[str]
    prompt: Optional[str]
    role: Optional[str]
    truncate: Optional[bool]


class RerankRequest(NamedTuple):
    """Documents to put in order.

    Args:
        model: name, if the request has one.
        query: a text.
        documents: texts.
        is_tei: whether the request is TEI's, with ``texts``; else Cohere's and Jina's, with ``documents``.
        top_n: how many to give.
        return_documents: whether to give their texts, too.
        raw_scores: whether a reranker's logits are wanted in place of its scores.
        truncate: whether texts that are too long are cut.
    """

    model: Optional[str]
    query: str
    documents: List[str]
    is_tei: bool
    top_n: Optional[int]
    return_documents: bool
    raw_scores: bool
    truncate: Optional[bool]

    @property
    def field(self) -> str:
        """The field that the documents came in."""
        return "texts" if self.is_tei else "documents"


class PredictRequest(NamedTuple):
    """Texts to answer the bundle's task for.

    Args:
        model: name, if the request has one.
        inputs: as ``Session.predict`` takes them: texts, pairs or dicts.
        is_single: whether it was one input and no list.
        raw_scores: whether logits are wanted in place of probabilities.
        parameters: options of the task's pipeline.
        truncate: whether texts that are too long are cut.
    """

    model: Optional[str]
    inputs: List[Any]
    is_single: bool
    raw_scores: bool
    parameters: Mapping[str, Any]
    truncate: Optional[bool]


def parse(data: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; NaN and infinities are no JSON.

    Raises:
        RefusedError: 400: it is not JSON, or no object.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise RefusedError(400, f"the body is {_kind(body)}; expected a JSON object", code="invalid_json")
    return body


def embedding_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """A request of ``POST /v1/embeddings``.

    Raises:
        RefusedError: 400: a field is missing, of another type, or out of range.
    """
    inputs, is_single = _texts_or_ids(body, "input")
    form = _text(body, "encoding_format") or "float"
    if form not in FORMATS:
        raise bad("encoding_format", repr(form), f"one of {', '.join(FORMATS)}")
    return _embedding(body, inputs, is_single, form == "base64", _flag(body, "normalize"))


def embed_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """A request of TEI's ``POST /embed``, whose vectors have the length 1 unless it says otherwise.

    Raises:
        RefusedError: 400: a field is missing, of another type, or out of range.
    """
    inputs, is_single = _texts_or_ids(body, "inputs")
    normalize = _flag(body, "normalize")
    return _embedding(body, inputs, is_single, False, True if normalize is None else normalize)


def _embedding(
    body: Mapping[str, Any], inputs: List[TextOrIds], is_single: bool, base64: bool, normalize: Optional[bool]
) -> EmbeddingRequest:
    prompts = [name for name in ("prompt", "prompt_name", "input_type") if body.get(name) is not None]
    if len(prompts) > 1:
        raise RefusedError(
            400,
            f"{prompts[0]} and {prompts[1]} both choose a prompt; give one",
            code="invalid_value",
            param=prompts[1],
        )
    role = _text(body, "input_type")
    if role is not None:
        role = _ROLE_WORDS.get(role, role)
        if role not in ROLES:
            raise bad("input_type", repr(body["input_type"]), f"one of {', '.join(ROLES)}")
    return EmbeddingRequest(
        _text(body, "model"),
        inputs,
        is_single,
        base64,
        _count(body, "dimensions"),
        normalize,
        _text(body, "prompt_name"),
        _text(body, "prompt"),
        role,
        _flag(body, "truncate"),
    )


def rerank_request(body: Mapping[str, Any]) -> RerankRequest:
    """A request of ``POST /rerank``, as Cohere, Jina or TEI have it.

    Raises:
        RefusedError: 400: a field is missing, of another type, or out of range.
    """
    is_tei = "texts" in body
    if is_tei and "documents" in body:
        raise RefusedError(
            400, "texts and documents both list documents; give one", code="invalid_value", param="texts"
        )
    query = _text(body, "query")
    if query is None:
        raise bad("query", "missing", "a text", code="missing_field")
    field = "texts" if is_tei else "documents"
    listed = body.get(field)
    if listed is None:
        raise bad("documents", "missing", "a list of texts", code="missing_field")
    if not isinstance(listed, list):
        raise bad(field, _kind(listed), "a list of texts")
    documents = [_document(field, place, one) for place, one in enumerate(listed)]
    if not documents:
        raise bad(field, "an empty list", "at least one text")
    given = _flag(body, "return_text" if is_tei else "return_documents")
    return RerankRequest(
        _text(body, "model"),
        query,
        documents,
        is_tei,
        _count(body, "top_n"),
        bool(given),
        bool(_flag(body, "raw_scores")),
        _flag(body, "truncate"),
    )


def predict_request(body: Mapping[str, Any]) -> PredictRequest:
    """A request of TEI's ``POST /predict``: a text, a pair ``[text, text]``, a dict, or a list of lists.

    Raises:
        RefusedError: 400: a field is missing or of another type.
    """
    given = body.get("inputs")
    expected = "a text, a pair [text, text], a dict of texts, or a list of [text], [text, text] and dicts"
    if given is None:
        raise bad("inputs", "missing", expected, code="missing_field")
    if given == []:
        raise bad("inputs", "an empty list", "at least one text")
    is_single = isinstance(given, (str, dict)) or (isinstance(given, list) and isinstance(given[0], str))
    listed = [given] if is_single else given
    if not isinstance(listed, list):
        raise bad("inputs", _kind(given), expected)
    inputs: List[Any] = []
    for place, one in enumerate(listed):
        where = "inputs" if is_single else f"inputs[{place}]"
        if isinstance(one, list) and 1 <= len(one) <= 2 and all(isinstance(text, str) for text in one):
            inputs.append(one[0] if len(one) == 1 else tuple(one))
        elif isinstance(one, dict) or (is_single and isinstance(one, str)):
            inputs.append(one)
        else:
            raise bad(where, _kind(one), expected)
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise bad("parameters", _kind(parameters), "an object")
    return PredictRequest(
        _text(body, "model"),
        inputs,
        is_single,
        bool(_flag(body, "raw_scores")),
        parameters or {},
        _flag(body, "truncate"),
    )


def _texts_or_ids(body: Mapping[str, Any], field: str) -> Tuple[List[TextOrIds], bool]:
    """Texts, or lists of token ids, and whether it was one and no list."""
    given = body.get(field)
    if given is None:
        raise bad(field, "missing", "a text or a list of texts", code="missing_field")
    if isinstance(given, str):
        return [given], True
    if not isinstance(given, list):
        raise bad(field, _kind(given), "a text, a list of texts, or lists of token ids")
    if not given:
        raise bad(field, "an empty list", "at least one text")
    if all(map(_is_id, given)):
        return [given], True
    for place, one in enumerate(given):
        if isinstance(one, list) and one and all(map(_is_id, one)):
            continue
        if not isinstance(one, str):
            raise bad(f"{field}[{place}]", _kind(one), "a text or a list of token ids")
    return given, False


def _document(field: str, place: int, given: Any) -> str:
    """A document: a text, or an object with one."""
    text = given.get("text") if isinstance(given, dict) else given
    if not isinstance(text, str):
        raise bad(f"{field}[{place}]", _kind(given), 'a text, or an object {"text": ...}')
    return text


def _text(body: Mapping[str, Any], field: str) -> Optional[str]:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise bad(field, _kind(value), "a text")
    return value


def _flag(body: Mapping[str, Any], field: str) -> Optional[bool]:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise bad(field, _kind(value), "true or false")
    return value


def _count(body: Mapping[str, Any], field: str) -> Optional[int]:
    value = body.get(field)
    if value is None:
        return None
    if not _is_id(value) or value < 1:
        raise bad(field, str(value) if _is_id(value) else _kind(value), "a whole number from 1")
    return int(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    return "a text" if isinstance(value, str) else "an object"
