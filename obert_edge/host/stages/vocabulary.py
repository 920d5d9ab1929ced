"""Which pieces of a vocabulary a smaller one keeps, and a tokenizer without the others.

WordPiece takes the longest piece that fits, again and again; BPE merges pairs in the order of its list. So
a text whose pieces are all kept is cut exactly as before: a shorter list offers no longer piece and no
earlier merge than the one that was taken. Unigram takes the pieces with the largest product, and a shorter
list has no larger one; its rarest piece stays, because what is unknown costs a little more than that. Every
other text is cut into smaller pieces, down to single characters (bytes, for RoBERTa), which all stay: nothing
that had pieces becomes unknown.

The one exception is a WordPiece vocabulary that lacks the piece of a character it uses inside other
pieces (no usual trainer makes one). All pieces with such a character stay, but a word that needs one of
them beside a removed piece may become unknown.
"""

from __future__ import annotations

import copy
import json
import re
from operator import itemgetter
from typing import Any, Collection, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.device.tokenizers import vocabulary_of
from obert_edge.errors import CheckpointError, UsageError

Counts = npt.NDArray[np.int64]

#: A piece that stands for a byte of what the vocabulary lacks.
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_TRIMMED = "vocabularies of WordPiece, BPE and Unigram tokenizers can be trimmed"


class Choice(NamedTuple):
    """Pieces to keep.

    Attributes:
        ids: their old ids, ascending; the new id of each is its place here.
        needed: how many of them have to stay whatever the corpus: special tokens, characters.
    """

    ids: List[int]
    needed: int


def choose_pieces(
    description: Mapping[str, Any],
    counts: Counts,
    *,
    minimum: int = 1,
    keep: Optional[int] = None,
    required: Collection[int] = (),
) -> Choice:
    """Choose the pieces to keep.

    Args:
        description: a parsed ``tokenizer.json``.
        counts: how often each id occurs in the corpus; int64 ``[vocabulary]``.
        minimum: pieces that occur less often are removed.
        keep: at most so many pieces stay, the most frequent ones; ``None``: no limit.
        required: further ids that stay.

    Raises:
        CheckpointError: the tokenizer makes ids beyond ``counts``.
        UsageError: more than ``keep`` pieces have to stay.
    """
    vocabulary = _vocabulary(description)
    beyond = max(vocabulary.values()) - len(counts) + 1
    if beyond > 0:
        raise CheckpointError(
            f"the tokenizer makes ids up to {max(vocabulary.values())}; the model has {len(counts)} word "
            "embeddings",
            hint="copy the tokenizer files that belong to this model",
        )
    parts = _parts(description, vocabulary)
    kept: Set[int] = set()
    for id_ in {*_needed(description, vocabulary), *required}:
        kept |= _with_parts(id_, parts, kept)
    needed = len(kept)
    if keep is not None and needed > keep:
        raise UsageError(
            f"{needed} pieces have to stay: special tokens and single characters; only {keep} may",
            hint=f"keep {needed} or more",
        )
    # The most frequent first; of equals the lower id, which most vocabularies give to the more frequent.
    for id_ in sorted(np.flatnonzero(counts >= max(1, minimum)).tolist(), key=lambda i: (-counts[i], i)):
        more = _with_parts(id_, parts, kept)
        if keep is None or len(kept) + len(more) <= keep:
            kept |= more
    return Choice(sorted(kept), needed)


def trim_tokenizer(description: Mapping[str, Any], ids: Sequence[int]) -> Dict[str, Any]:
    """A ``tokenizer.json`` of some of its pieces, with its ids counted anew from 0.

    Args:
        description: the parsed file.
        ids: what :func:`choose_pieces` chose.
    """
    result: Dict[str, Any] = copy.deepcopy(dict(description))
    new = {old: place for place, old in enumerate(ids)}
    model = result["model"]
    if model.get("type") == "Unigram":
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new]
        model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {
            piece: new[old] for piece, old in sorted(model["vocab"].items(), key=itemgetter(1)) if old in new
        }
    if model.get("type") == "BPE":
        merged = [_pair(merge) for merge in model["merges"]]
        model["merges"] = [
            merge
            for merge, (left, right) in zip(model["merges"], merged)
            if all(piece in model["vocab"] for piece in (left, right, _joined(model, left, right)))
        ]
    for token in result.get("added_tokens") or []:
        token["id"] = new[token["id"]]
    padding = result.get("padding")
    if isinstance(padding, dict) and padding.get("pad_id") in new:
        padding["pad_id"] = new[padding["pad_id"]]
    _renumber(result.get("post_processor"), new)
    return result


def parse_tokenizer(text: str, source: str) -> Dict[str, Any]:
    """A parsed ``tokenizer.json`` that can be trimmed.

    Raises:
        CheckpointError: it is not JSON, or its model is neither WordPiece, BPE nor Unigram with an unknown
            token.
    """
    try:
        description: Dict[str, Any] = json.loads(text)
        kind = str(description["model"].get("type"))
        found = dict(description["model"]["vocab"])
        unknown = kind == "Unigram" and description["model"]["unk_id"] is None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source} is not a tokenizer.json with a vocabulary: {error!r}",
            hint=_TRIMMED,
        ) from error
    if kind not in ("WordPiece", "BPE", "Unigram") or not found or unknown:
        raise CheckpointError(
            f"the tokenizer of {source} is of kind {kind!r} with {len(found)} pieces",
            hint=_TRIMMED,
        )
    return description


def special_ids(description: Mapping[str, Any]) -> Set[int]:
    """Ids that WordPiece or BPE does not make: special tokens, and added ones, which are matched whole."""
    vocabulary = _vocabulary(description)
    named = _named(description.get("post_processor"))
    added = {int(token["id"]) for token in description.get("added_tokens") or []}
    return added | {vocabulary[name] for name in named if name in vocabulary}


def _vocabulary(description: Mapping[str, Any]) -> Dict[str, int]:
    """Every piece and added token with its id."""
    vocabulary = vocabulary_of(description)
    return {**vocabulary, **{t["content"]: int(t["id"]) for t in description.get("added_tokens") or []}}


def _needed(description: Mapping[str, Any], vocabulary: Mapping[str, int]) -> Set[int]:
    """Ids that stay whatever the corpus."""
    model = description["model"]
    needed = special_ids(description)
    if str(model.get("unk_token")) in vocabulary:
        needed.add(vocabulary[str(model["unk_token"])])
    prefix = str(model.get("continuing_subword_prefix") or "")
    suffix = str(model.get("end_of_word_suffix") or "")
    needed |= {id_ for piece, id_ in vocabulary.items() if len(_bare(piece, prefix, suffix)) == 1}
    if model.get("type") == "Unigram":
        scores = [score for _, score in model["vocab"]]
        needed |= {int(model["unk_id"]), scores.index(min(scores))}
        needed |= {id_ for piece, id_ in vocabulary.items() if _BYTE.fullmatch(piece)}
    if model.get("type") == "WordPiece":
        needed |= _indispensable(model["vocab"], prefix, special_ids(description))
    return needed


def _bare(piece: str, prefix: str, suffix: str) -> str:
    """A piece without the marks of its place in a word."""
    if prefix and len(piece) > len(prefix) and piece.startswith(prefix):
        piece = piece[len(prefix) :]
    if suffix and len(piece) > len(suffix) and piece.endswith(suffix):
        piece = piece[: -len(suffix)]
    return piece


def _indispensable(vocabulary: Mapping[str, int], prefix: str, special: Set[int]) -> Set[int]:
    """WordPiece pieces with a character that, where it stands, has no piece of its own."""
    found: Set[int] = set()
    for piece, id_ in vocabulary.items():
        if id_ in special or (piece.startswith("[unused") and piece.endswith("]")):
            continue  # never made of text
        inside = len(piece) > len(prefix) and piece.startswith(prefix)
        bare = piece[len(prefix) :] if inside else piece
        singles = [prefix + character if inside or i else character for i, character in enumerate(bare)]
        if any(single not in vocabulary for single in singles):
            found.add(id_)
    return found


def _pair(merge: Any) -> Tuple[str, str]:
    """Both pieces of a merge, which is ``"a b"`` in older files and ``["a", "b"]`` in newer ones."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return str(left), str(right)


def _joined(model: Mapping[str, Any], left: str, right: str) -> str:
    """The piece that a merge makes; the right part loses its ``continuing_subword_prefix``."""
    prefix = str(model.get("continuing_subword_prefix") or "")
    return left + (right[len(prefix) :] if prefix and right.startswith(prefix) else right)


def _parts(description: Mapping[str, Any], vocabulary: Mapping[str, int]) -> Dict[int, Set[int]]:
    """For each piece that BPE merges, what it merges it from; empty for WordPiece, which merges none."""
    model = description["model"]
    parts: Dict[int, Set[int]] = {}
    for merge in model.get("merges") or []:
        pair = _pair(merge)
        whole = vocabulary.get(_joined(model, *pair))
        if whole is not None and all(piece in vocabulary for piece in pair):
            parts.setdefault(whole, set()).update(vocabulary[piece] for piece in pair)
    return parts


def _with_parts(id_: int, parts: Mapping[int, Set[int]], kept: Set[int]) -> Set[int]:
    """A piece and all pieces it is merged from, directly or not, without those that are kept already."""
    found: Set[int] = set()
    todo = [id_]
    while todo:
        piece = todo.pop()
        if piece not in kept and piece not in found:
            found.add(piece)
            todo += parts.get(piece, ())
    return found


def _processors(processor: Any) -> List[Dict[str, Any]]:
    """A post-processor, or those of a sequence of them."""
    if not isinstance(processor, dict):
        return []
    inner = processor.get("processors")
    return [one for part in inner for one in _processors(part)] if inner else [processor]


def _named(processor: Any) -> Set[str]:
    """The tokens that a post-processor puts around a text."""
    found: Set[str] = set()
    for one in _processors(processor):
        for special in (one.get("special_tokens") or {}).values():
            found |= set(special["tokens"])
        found |= {str(one[key][0]) for key in ("sep", "cls") if key in one}
    return found


def _renumber(processor: Any, new: Mapping[int, int]) -> None:
    """New ids for what a post-processor puts around a text, in place."""
    for one in _processors(processor):
        for special in (one.get("special_tokens") or {}).values():
            special["ids"] = [new[id_] for id_ in special["ids"]]
        for key in ("sep", "cls"):
            if key in one:
                one[key] = [one[key][0], new[one[key][1]]]
