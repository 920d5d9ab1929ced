"""The tokenizer of a bundle: text to ids, with truncation, pairs and windows over long texts.

The ``tokenizers`` library cuts the text where it is installed; elsewhere plain Python does, with the same ids
and offsets. Special tokens, truncation and windows are done here for both, so they cannot differ.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union, overload

from obert_edge.device.tokenizers import create_model, vocabulary_of
from obert_edge.device.tokenizers.added_tokens import read_added_tokens
from obert_edge.device.tokenizers.beginnings import MARGIN, beginnings, ends_words_at_spaces
from obert_edge.device.tokenizers.byte_level import text_of_bytes
from obert_edge.device.tokenizers.fields import number_field, object_of, optional_object, text_field
from obert_edge.device.tokenizers.numbers import parse_json
from obert_edge.device.tokenizers.pieces import Pieces, TextSplitter, part_type
from obert_edge.device.tokenizers.pipeline import PythonTokenizer
from obert_edge.device.tokenizers.precompiled import check_charsmaps
from obert_edge.device.tokenizers.special_tokens import SpecialTokens
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


def shared_tokens(stride: int, room: int) -> int:
    """How many tokens of a long text neighboring windows share, whose windows hold ``room`` of them.

    At most two thirds, whatever is asked for: every token is in three windows then, and a stride as long as
    the window would give a window for each token.
    """
    return min(stride, 2 * room // 3)


class Windows(Sequence[Encoding]):
    """A long text as overlapping windows, each made when it is asked for: together they may be very many.

    Args:
        make: makes the window of a start, counted in tokens from the end that windows are counted from.
        step: tokens from one start to the next.
        count: how many windows there are.
        tokens: of all of them together, special ones and those that windows share counted in each.
    """

    def __init__(self, make: Callable[[int], Encoding], step: int, count: int, tokens: int) -> None:
        self.step = step
        self.tokens = tokens
        self._make = make
        self._starts = range(0, count * step, step)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Encoding: ...

    @overload
    def __getitem__(self, index: slice) -> List[Encoding]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Encoding, List[Encoding]]:
        if isinstance(index, slice):
            return [self._make(start) for start in self._starts[index]]
        return self._make(self._starts[index])


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
        has_library = backend != "python" and _has_library()
        if backend == "tokenizers" and not has_library:
            raise UnsupportedDeviceError(
                "the tokenizers library is not installed", hint="run `pip install tokenizers`"
            )
        self.backend = "tokenizers" if has_library else "python"
        try:
            self._read(_parse(description), description)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            raise _no_tokenizer(error) from error

    def _read(self, parsed: Mapping[str, Any], given: Union[str, bytes, Mapping[str, Any]]) -> None:
        """Take what is needed of a ``tokenizer.json``."""
        self._vocabulary = vocabulary_of(parsed)
        added = read_added_tokens(
            parsed.get("added_tokens") or [], self._vocabulary, len(parsed["model"]["vocab"])
        )
        self._contents: Dict[int, str] = {token.id: token.content for token in added}
        self._added: Dict[str, int] = {token.content: token.id for token in added}
        self._special = frozenset(token.id for token in added if token.special)
        #: The vocabulary the other way round, made when first needed.
        self._tokens: Optional[Dict[int, str]] = None
        self._around = SpecialTokens.from_json(parsed.get("post_processor"))
        #: Whether a text that is too long loses its beginning.
        self._cuts_left = (optional_object(parsed, "truncation") or {}).get("direction") == "Left"
        parts = _parts(parsed)
        #: Whether the first tokens of a long text are those of its beginning.
        self._has_beginnings = not self._cuts_left and ends_words_at_spaces(parts, added)
        #: Whether tokens spell bytes.
        self._spells_bytes = any(part_type({"part": part}, "part") == "ByteLevel" for part in parts)
        #: The character that stands for a space in the vocabulary, or nothing.
        self._space = _metaspace(parts)
        self._continuation_mark = str(parsed["model"].get("continuing_subword_prefix") or "")
        self._unknown_id = self._read_unknown_id(parsed["model"])
        self._splitter: TextSplitter
        if self.backend == "python":
            self._splitter = PythonTokenizer(parsed, create_model(parsed), added)
        else:
            self._splitter = _LibrarySplitter(library_tokenizer(given, parsed))

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens."""
        return self._special

    @property
    def added_ids(self) -> frozenset[int]:
        """Ids of the added tokens, which are found as whole strings."""
        return frozenset(self._contents)

    @property
    def ids(self) -> frozenset[int]:
        """All ids that it can make: of the vocabulary, of added tokens and of what it puts around texts."""
        return frozenset([*self._vocabulary.values(), *self._contents, *self._around.ids])

    @property
    def marks_continuations(self) -> bool:
        """Whether a token shows that it goes on with a word, as WordPiece's ``##`` does."""
        return bool(self.continuation_mark)

    @property
    def continuation_mark(self) -> str:
        """What a token that goes on with a word begins with, WordPiece's ``##``; "": nothing shows it."""
        return self._continuation_mark

    @property
    def unknown_id(self) -> Optional[int]:
        """The id of what stands for text that is not in the vocabulary; ``None``: there is no such token."""
        return self._unknown_id

    def _read_unknown_id(self, model: Mapping[str, Any]) -> Optional[int]:
        if model.get("unk_id") is not None:
            identifier: int = number_field(model, "unk_id")
            return identifier
        unknown = text_field(model, "unk_token", None)
        return None if unknown is None else self.token_id(unknown)

    def token_id(self, token: str) -> Optional[int]:
        """The id of a token's exact spelling, or ``None``."""
        return self._added.get(token, self._vocabulary.get(token))

    def token(self, identifier: int) -> str:
        """The spelling of a token as people read it: no byte characters, no leading space."""
        text = self.text_of(identifier)
        return text.strip() if self.marks_spaces and identifier not in self._contents else text

    def text_of(self, identifier: int) -> str:
        """The text that a token stands for: with the space that starts a word, where tokens have such."""
        if identifier in self._contents:
            return self._contents[identifier]
        if self._tokens is None:
            self._tokens = {value: key for key, value in self._vocabulary.items()}
        token = self._tokens.get(identifier, "")
        if self._spells_bytes:
            return text_of_bytes(token)
        return token.replace(self._space, " ") if self._space else token

    @property
    def marks_spaces(self) -> bool:
        """Whether spaces are part of tokens, as in byte-level and SentencePiece vocabularies."""
        return bool(self._space) or self._spells_bytes

    def special_tokens_added(self, pair: bool) -> int:
        """How many special tokens surround a text, or a pair of texts."""
        return sum(len(slot.ids) for slot in (self._around.pair if pair else self._around.single))

    def encode(self, text: str, pair: Optional[str] = None, max_length: Optional[int] = None) -> Encoding:
        """Tokenize a text or a pair, cutting the end of the longer one until both fit.

        Args:
            text: the text.
            pair: the second text.
            max_length: the most tokens, special ones included; ``None``: no limit.

        Raises:
            InputError: a text is not a string, or ``max_length`` leaves no room beside the special tokens.
        """
        given = [text] if pair is None else [text, pair]
        if max_length is None:
            return self._assemble(list(map(self._tokenize, given)))
        room = self._room(max_length, pair is not None)
        found = [self._first_tokens(one, room) for one in given]
        texts = [pieces for pieces, _ in found]
        if pair is not None and not any(is_whole for _, is_whole in found):
            texts = list(map(self._tokenize, given))  # the longer loses a token more than the shorter
        lengths = _longest_first([len(pieces) for pieces in texts], room)
        return self._assemble([self._shortened(pieces, length) for pieces, length in zip(texts, lengths)])

    def encode_windows(self, text: str, pair: Optional[str], max_length: int, stride: int) -> Windows:
        """Tokenize a long text as windows: over the second text of a pair, or over the only one.

        Args:
            text: with ``pair``, kept whole (a question); without, the long text.
            pair: the long text (a context), or ``None``.
            max_length: the most tokens of a window, special ones included.
            stride: how many tokens neighboring windows share; see :func:`shared_tokens`.

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
        step = room - shared_tokens(stride, room)
        last = max(len(long) - room, 0)
        others = -(-last // step)

        def make(start: int) -> Encoding:
            if self._cuts_left:  # windows are counted from the end, and the first of the text may be shorter
                part = long.cut(max(last - start, 0), len(long) - start)
            else:
                part = long.cut(start, start + room)
            return self._assemble([*kept, part])

        # All windows but the last one made are full.
        tokens = others * max_length + max_length - room + len(long) - others * step
        return Windows(make, step, others + 1, tokens)

    def _shortened(self, pieces: Pieces, length: int) -> Pieces:
        """As many tokens, of the beginning or, where the tokenizer says so, of the end."""
        if length == len(pieces):
            return pieces
        return pieces.cut(len(pieces) - length, len(pieces)) if self._cuts_left else pieces.cut(0, length)

    def _first_tokens(self, text: str, count: int) -> Tuple[Pieces, bool]:
        """The tokens of a text, and whether they are all: of a long one they are ``count`` and some more."""
        if self._has_beginnings and isinstance(text, str):
            for beginning in beginnings(text, count):
                pieces = self._tokenize(beginning)
                if len(pieces) >= count + MARGIN:
                    _check_text(text)
                    return pieces, False
        return self._tokenize(text), True

    def _tokenize(self, text: str) -> Pieces:
        _check_text(text)
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
        for slot in self._around.pair if len(texts) == 2 else self._around.single:
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

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokenize(self, text: str) -> Pieces:
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise BundleError(
                f"the tokenizers library cannot cut a text as tokenizer.json says: {error}",
                hint="rebuild the bundle from a model folder whose tokenizer cuts every text",
            ) from error
        return Pieces(list(encoding.ids), list(encoding.offsets), list(encoding.word_ids))


def _check_text(text: Any) -> None:
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


def _has_library() -> bool:
    try:
        importlib.import_module("tokenizers")
    except ImportError:
        return False
    return True


def library_tokenizer(
    description: Union[str, bytes, Mapping[str, Any]], parsed: Optional[Mapping[str, Any]] = None
) -> Any:
    """The ``tokenizers.Tokenizer`` of a ``tokenizer.json``, whatever is wrong with which is an error of ours.

    Args:
        description: the file's content, or what is parsed of it.
        parsed: the content parsed, where the caller has it.

    Raises:
        BundleError: the library does not read it, for the reason that is its cause.
        ImportError: the library is not installed.
    """
    from tokenizers import Tokenizer as Library

    text = json.dumps(description) if isinstance(description, Mapping) else description
    try:
        check_charsmaps(_parse(description) if parsed is None else parsed)
        return Library.from_str(text if isinstance(text, str) else text.decode())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and panics of Rust are not even that
        raise BundleError(
            f"tokenizer.json is not one the tokenizers library reads: {error}",
            hint="rebuild the bundle from a model folder whose tokenizer loads",
        ) from error


def _parse(description: Union[str, bytes, Mapping[str, Any]]) -> Mapping[str, Any]:
    parsed = parse_json(description) if isinstance(description, (str, bytes)) else description
    if not isinstance(parsed, Mapping) or not isinstance(parsed.get("model"), Mapping):
        raise ValueError("there is no model in it")
    return dict(parsed)


def _no_tokenizer(error: Exception) -> BundleError:
    missing = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return BundleError(
        f"tokenizer.json holds no tokenizer ({missing})",
        hint="rebuild the bundle from a model folder whose tokenizer loads",
    )


def _parts(description: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """The normalizers and pre-tokenizers of a description, those of sequences included."""
    todo = [description.get("normalizer"), description.get("pre_tokenizer")]
    found: List[Mapping[str, Any]] = []
    while todo:
        part = todo.pop()
        if part is not None:
            found.append(object_of(part, "normalizer or pre_tokenizer"))
            if part.get("type") == "Sequence":
                todo += [*part.get("normalizers", ()), *part.get("pretokenizers", ())]
    return found


def _metaspace(parts: Sequence[Mapping[str, Any]]) -> str:
    """The character that stands for a space in the vocabulary, or nothing."""
    for part in parts:
        if part.get("type") == "Metaspace":
            return str(text_field(part, "replacement"))
        if part.get("type") == "Replace" and part["pattern"] == {"String": " "}:
            return str(text_field(part, "content"))
    return ""


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
