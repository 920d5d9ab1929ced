"""The tokenizer of a bundle: text to ids, with truncation, pairs and windows over long texts.

The ``tokenizers`` library cuts the text where it is installed; elsewhere plain Python does, with the same ids
and offsets. Special tokens, truncation and windows are done here for both, so they cannot differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from obert_edge.device.tokenizers import create_python_tokenizer, python_class
from obert_edge.device.tokenizers.pieces import Pieces, TextSplitter
from obert_edge.errors import BundleError, InputError, UnsupportedDeviceError


@dataclass(frozen=True)
class Encoding:
    """A tokenized text (or pair) with its special tokens.

    Args:
        ids: token ids.
        type_ids: 0 or 1: which segment embedding the token takes.
        offsets: ``(start, end)`` in characters of the token's own text; ``(0, 0)`` for special tokens.
        words: the number of the word within its text; ``None`` for special tokens.
        sequences: 0 for the first text, 1 for the second, ``None`` for special tokens.
    """

    ids: List[int]
    type_ids: List[int]
    offsets: List[Tuple[int, int]]
    words: List[Optional[int]]
    sequences: List[Optional[int]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Slot:
    """One item of a special-token template: a text (``sequence``), or the ids of a special token."""

    type_id: int
    sequence: Optional[int] = None
    ids: Tuple[int, ...] = ()


class Tokenizer:
    """Tokenizes as a ``tokenizer.json`` says.

    Args:
        description: the text of ``tokenizer.json``, or the same parsed.
        backend: ``"auto"``, ``"tokenizers"`` or ``"python"``.

    Raises:
        BundleError: the description is not a ``tokenizer.json``.
        UnsupportedDeviceError: it uses parts only the ``tokenizers`` library has, which is not installed.
    """

    def __init__(self, description: Union[str, bytes, Mapping[str, Any]], backend: str = "auto") -> None:
        parsed = _parse(description)
        library = None if backend == "python" else _library()
        if backend == "tokenizers" and library is None:
            raise UnsupportedDeviceError(
                "the tokenizers library is not installed", hint="run `pip install tokenizers`"
            )
        self._splitter: TextSplitter
        if library is None:
            self._splitter = create_python_tokenizer(parsed)
            self.backend = "python"
        else:
            self._splitter = _LibrarySplitter(library, parsed)
            self.backend = "tokenizers"
        self._vocabulary: Mapping[str, int] = parsed["model"]["vocab"]
        self._contents: Dict[int, str] = {
            int(entry["id"]): str(entry["content"]) for entry in parsed.get("added_tokens", [])
        }
        self._special = frozenset(
            int(entry["id"]) for entry in parsed.get("added_tokens", []) if entry.get("special")
        )
        #: The vocabulary the other way round, made when first needed.
        self._tokens: Optional[Dict[int, str]] = None
        self._description = parsed
        self._single, self._pair = _templates(parsed.get("post_processor"), self._identifier)

    def _identifier(self, token: str) -> int:
        for identifier, content in self._contents.items():
            if content == token:
                return identifier
        return self._vocabulary[token]

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens."""
        return self._special

    @property
    def marks_continuations(self) -> bool:
        """Whether a token shows that it goes on with a word, as WordPiece's ``##`` does."""
        return bool(self._description["model"].get("continuing_subword_prefix"))

    @property
    def unknown_id(self) -> Optional[int]:
        """The id of what stands for text that is not in the vocabulary; ``None``: there is no such token."""
        model = self._description["model"]
        if model.get("unk_id") is not None:
            return int(model["unk_id"])
        return None if model.get("unk_token") is None else self.token_id(model["unk_token"])

    def token_id(self, token: str) -> Optional[int]:
        """The id of a token's exact spelling, or ``None``."""
        try:
            return self._identifier(token)
        except KeyError:
            return None

    def token(self, identifier: int) -> str:
        """The spelling of a token as people read it: no byte characters, no leading space."""
        if identifier in self._contents:
            return self._contents[identifier]
        if self._tokens is None:
            self._tokens = {value: key for key, value in self._vocabulary.items()}
        token = self._tokens.get(identifier, "")
        model = python_class(self._description)
        return token if model is None else model.readable(token, self._description)

    def special_tokens_added(self, pair: bool) -> int:
        """How many special tokens surround a text, or a pair of texts."""
        return sum(len(slot.ids) for slot in (self._pair if pair else self._single))

    def encode(self, text: str, pair: Optional[str] = None, max_length: Optional[int] = None) -> Encoding:
        """Tokenize a text or a pair, cutting the end of the longer one until both fit.

        Args:
            text: the text.
            pair: the second text.
            max_length: the most tokens, special ones included; ``None``: no limit.

        Raises:
            InputError: a text is not a string, or ``max_length`` leaves no room beside the special tokens.
        """
        texts = [self._tokenize(text)] if pair is None else [self._tokenize(text), self._tokenize(pair)]
        if max_length is not None:
            room = self._room(max_length, pair is not None)
            lengths = _longest_first([len(pieces) for pieces in texts], room)
            texts = [pieces.cut(0, length) for pieces, length in zip(texts, lengths)]
        return self._assemble(texts)

    def encode_windows(self, text: str, pair: Optional[str], max_length: int, stride: int) -> List[Encoding]:
        """Tokenize a long text as windows: over the second text of a pair, or over the only one.

        Args:
            text: with ``pair``, kept whole (a question); without, the long text.
            pair: the long text (a context), or ``None``.
            max_length: the most tokens of a window, special ones included.
            stride: how many tokens neighboring windows share.

        Returns:
            One encoding per window, at least one; offsets and words are those of the whole texts.

        Raises:
            InputError: a text is not a string, or nothing of the long text fits beside the first.
        """
        texts = [self._tokenize(text)] if pair is None else [self._tokenize(text), self._tokenize(pair)]
        kept, long = texts[:-1], texts[-1]
        room = self._room(max_length, pair is not None) - sum(map(len, kept))
        if room < 1:
            raise InputError(
                f"the first text has {sum(map(len, kept))} tokens: no room for the second in {max_length}",
                hint="shorten the question",
            )
        step = room - min(stride, room - 1)
        windows: List[Encoding] = []
        start = 0
        while True:
            windows.append(self._assemble([*kept, long.cut(start, start + room)]))
            if start + room >= len(long):
                return windows
            start += step

    def _tokenize(self, text: str) -> Pieces:
        if not isinstance(text, str):
            raise InputError(
                f"a text is {type(text).__name__}; expected str", hint="pass text, or lists of texts"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"a text holds half a character (a lone surrogate) at {error.start}",
                hint="decode the text with the right encoding, or with errors='replace'",
            ) from error
        return self._splitter.tokenize(text)

    def _room(self, max_length: int, pair: bool) -> int:
        special = self.special_tokens_added(pair)
        if max_length < special + 1:
            raise InputError(
                f"max_length is {max_length}, but special tokens alone take {special}",
                hint=f"use a max_length of {special + 1} or more",
            )
        return max_length - special

    def _assemble(self, texts: Sequence[Pieces]) -> Encoding:
        """Put the special tokens around one or two texts."""
        result = Encoding([], [], [], [], [])
        for slot in self._pair if len(texts) == 2 else self._single:
            if slot.sequence is None:
                count = len(slot.ids)
                result.ids.extend(slot.ids)
                result.offsets.extend([(0, 0)] * count)
                result.words.extend([None] * count)
                result.sequences.extend([None] * count)
            else:
                pieces = texts[slot.sequence]
                count = len(pieces)
                result.ids.extend(pieces.ids)
                result.offsets.extend(pieces.offsets)
                result.words.extend(pieces.words)
                result.sequences.extend([slot.sequence] * count)
            result.type_ids.extend([slot.type_id] * count)
        return result


class _LibrarySplitter:
    """Cuts text with the ``tokenizers`` library."""

    def __init__(self, library: Any, description: Mapping[str, Any]) -> None:
        plain = {**description, "truncation": None, "padding": None}
        try:
            self._tokenizer = library.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(
                f"tokenizer.json is not one the tokenizers library reads: {error}",
                hint="rebuild the bundle from a model folder whose tokenizer loads",
            ) from error

    def tokenize(self, text: str) -> Pieces:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Pieces(list(encoding.ids), list(encoding.offsets), list(encoding.word_ids))


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        return None
    return tokenizers


def _parse(description: Union[str, bytes, Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        parsed = json.loads(description) if isinstance(description, (str, bytes)) else description
        parsed["model"]["vocab"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"tokenizer.json holds no tokenizer ({error})",
            hint="rebuild the bundle from a model folder whose tokenizer loads",
        ) from error
    return dict(parsed)


def _longest_first(lengths: Sequence[int], room: int) -> List[int]:
    """How many tokens each text keeps when the longer is cut first, as ``tokenizers`` cuts."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    short, long = sorted(lengths)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return [long, short] if lengths[0] > lengths[1] else [short, long]


def _templates(processor: Optional[Mapping[str, Any]], identifier: Any) -> Tuple[List[_Slot], List[_Slot]]:
    """The special tokens around one text and around a pair."""
    kind = None if processor is None else processor.get("type")
    if processor is None or kind == "ByteLevel":
        return [_Slot(0, sequence=0)], [_Slot(0, sequence=0), _Slot(1, sequence=1)]
    if kind == "Sequence":
        for inner in processor["processors"]:
            if inner.get("type") != "ByteLevel":
                return _templates(inner, identifier)
        return _templates(None, identifier)
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = (int(processor[name][1]) for name in ("cls", "sep"))
        start, end = _Slot(0, ids=(cls,)), _Slot(0, ids=(sep,))
        first = [start, _Slot(0, sequence=0), end]
        if kind == "BertProcessing":
            return first, [*first, _Slot(1, sequence=1), _Slot(1, ids=(sep,))]
        return first, [*first, end, _Slot(0, sequence=1), end]
    if kind == "TemplateProcessing":
        special = {name: tuple(entry["ids"]) for name, entry in processor["special_tokens"].items()}
        return _template(processor["single"], special), _template(processor["pair"], special)
    raise BundleError(
        f"tokenizer.json has a post-processor of type {kind!r}; expected Bert, Roberta or a template",
        hint="save the tokenizer with a TemplateProcessing post-processor and rebuild the bundle",
    )


def _template(items: Sequence[Mapping[str, Any]], special: Mapping[str, Tuple[int, ...]]) -> List[_Slot]:
    slots: List[_Slot] = []
    for item in items:
        if "Sequence" in item:
            part = item["Sequence"]
            slots.append(_Slot(int(part["type_id"]), sequence=0 if part["id"] == "A" else 1))
        else:
            part = item["SpecialToken"]
            slots.append(_Slot(int(part["type_id"]), ids=special[part["id"]]))
    return slots
