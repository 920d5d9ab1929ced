"""The tokenizer of a model folder: what transformers' ``AutoTokenizer`` makes of its files.

Several files describe one tokenizer, and they may disagree: ``tokenizer.json`` may lower case where
``tokenizer_config.json`` says not to. Which of them wins depends on the class, so transformers is asked, and
what it makes goes into the bundle as one ``tokenizer.json``, and training and evaluation use that as well.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from obert_edge.device.tokenizers.special_tokens import Slot, SpecialTokens, trimmings
from obert_edge.device.tokenizers.tokenizer import Tokenizer as DeviceTokenizer
from obert_edge.device.tokenizers.tokenizer import library_tokenizer
from obert_edge.errors import BundleError, CheckpointError
from obert_edge.host.checkpoints.checkpoint import read_json
from obert_edge.host.checkpoints.sentencepiece_files import check_sentencepiece
from obert_edge.host.checkpoints.tokenizer_differences import differences
from obert_edge.host.checkpoints.tokenizer_probes import check_device_reads

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
#: Models of SentencePiece.
_SENTENCEPIECE = (
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
    "sentencepiece.model",
    "tokenizer.model",
)
#: Vocabularies that transformers can make a ``tokenizer.json`` of.
_OLDER_FILES = ("vocab.txt", "vocab.json", *_SENTENCEPIECE)
#: All files that a folder keeps a tokenizer in.
TOKENIZER_FILES = (FILE, CONFIG, "special_tokens_map.json", "added_tokens.json", "merges.txt", *_OLDER_FILES)
#: What ``special_tokens_map.json`` and ``tokenizer_config.json`` call the special tokens.
_SPECIAL = ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token", "bos_token", "eos_token")
#: ``tokenizer_config.json`` calls them so, and ``BertNormalizer`` so; for the classes that look like BERT's.
_BERT_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
#: Longest limit of tokens that is one; transformers writes 10**30 for "no limit".
_NO_LIMIT = 1 << 20
#: Two scores of a Unigram that differ by less are one number, printed and read again.
_SAME = 1e-9


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has a tokenizer, of whatever age."""
    return any((Path(folder) / name).is_file() for name in (FILE, *_OLDER_FILES))


def read_tokenizer(folder: Path) -> Optional[bytes]:
    """The tokenizer of a model folder as one ``tokenizer.json``.

    Returns:
        The bytes of its ``tokenizer.json``, where transformers makes the same of all files together; else
        those of the tokenizer that it makes; ``None`` when the folder has no tokenizer at all.

    Raises:
        CheckpointError: there is one that cannot be read; or files disagree, and transformers, which would
            know which one wins, is not installed.
    """
    folder = Path(folder)
    if not has_tokenizer(folder):
        _log.warning("%s has no tokenizer: the bundle will take token ids, not texts", folder)
        return None
    given = _given(folder)
    try:
        made, cuts_left = _as_transformers(folder)
    except ImportError as error:
        if given is None:
            raise CheckpointError(
                f"{folder} holds no {FILE}, and making one of its other files needs {error.name}",
                hint="pip install transformers, or copy the tokenizer.json of the checkpoint into the folder",
            ) from error
        _check_agreement(folder, json.loads(given))
        return given
    if given is not None:
        unlike = _unlike(folder, given, made, cuts_left)
        if not unlike:
            return given
        _log.warning(
            "%s is not the tokenizer that transformers makes of that folder: %s. Training, evaluation and "
            "the bundle go by transformers; AutoTokenizer.from_pretrained(folder).save_pretrained(folder) "
            "makes the file say the same",
            folder / FILE,
            "; ".join(unlike),
        )
    return _plain(made, cuts_left)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder for the host: the one that its bundle gets.

    Truncation and padding are switched off; tasks set what they need. One that cuts the beginning of long
    texts keeps that direction, with a limit that no text reaches.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    from tokenizers import Tokenizer

    folder = Path(folder)
    if not has_tokenizer(folder):
        raise CheckpointError(
            f"{folder} holds no {FILE}, nor a vocabulary that transformers could make one of",
            hint="copy the tokenizer files of the checkpoint into the folder",
        )
    tokenizer = Tokenizer.from_str((read_tokenizer(folder) or b"").decode())
    left = (tokenizer.truncation or {}).get("direction") == "left"
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if left:
        tokenizer.enable_truncation(_NO_LIMIT, direction="left")
    return tokenizer


def _given(folder: Path) -> Optional[bytes]:
    """The folder's ``tokenizer.json``, which the `tokenizers` library reads; ``None``: there is none.

    Raises:
        CheckpointError: it is not one.
    """
    path = folder / FILE
    parsed = read_json(path)
    if parsed is None:
        return None
    content = path.read_bytes()
    try:
        library_tokenizer(content, parsed)
    except ImportError:
        return content
    except BundleError as error:
        raise CheckpointError(
            f"{path} is not a tokenizer: {error.__cause__}",
            hint="copy the tokenizer.json of the checkpoint into the folder again",
        ) from error
    return content


def _as_transformers(folder: Path) -> Tuple[bytes, bool]:
    """The tokenizer that transformers makes of a folder, and whether it cuts the beginning of long texts.

    Raises:
        ImportError: transformers is not installed.
        CheckpointError: it makes none, or one that is not a tokenizer of the `tokenizers` library.
    """
    from transformers import AutoTokenizer

    _check_sentencepiece(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # whatever transformers raises on a bad file, the user needs the same advice
        raise CheckpointError(
            f"transformers makes no tokenizer of the files in {folder}: {error}",
            hint=f"copy the {FILE} and {CONFIG} of the checkpoint into the folder, or install what "
            "transformers asks for",
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise CheckpointError(
            f"the tokenizer of {folder}, {type(tokenizer).__name__}, has no form that a {FILE} could hold",
            hint="move its tokenizer files out of the folder to build a bundle that takes token ids",
        )
    if getattr(tokenizer, "split_special_tokens", False):
        raise CheckpointError(
            f"{folder}: {CONFIG} says split_special_tokens, so special tokens in a text are cut like words, "
            f"which a {FILE} cannot say",
            hint=f"take split_special_tokens out of {CONFIG}: special tokens in a text are then special",
        )
    text = str(tokenizer.backend_tokenizer.to_str())
    return text.encode(), tokenizer.truncation_side == "left"


def _check_sentencepiece(folder: Path) -> None:
    """Look at the SentencePiece models of a folder before other libraries read them."""
    for path in (folder / name for name in _SENTENCEPIECE):
        if path.is_file():
            try:
                check_sentencepiece(path.read_bytes())
            except ValueError as error:
                raise CheckpointError(
                    f"{path} is not a SentencePiece model: {error}",
                    hint=f"copy the {path.name} of the checkpoint into the folder again",
                ) from error


def _plain(made: bytes, cuts_left: bool) -> bytes:
    """A ``tokenizer.json`` that neither pads nor cuts; what is left of truncation is its direction."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(made.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if cuts_left:
        tokenizer.enable_truncation(_NO_LIMIT, direction="left")
    return str(tokenizer.to_str()).encode()


def _unlike(folder: Path, given: bytes, made: bytes, cuts_left: bool) -> List[str]:
    """What two ``tokenizer.json`` do not say alike; empty: they cut every text alike.

    Raises:
        CheckpointError: one has a part that the `tokenizers` library overlooked, such as a template of tokens
            that it does not list.
    """
    try:
        return _differences(json.loads(given), json.loads(made), cuts_left)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / FILE} does not fit together: {error or type(error).__name__}",
            hint="copy the tokenizer.json of the checkpoint into the folder again",
        ) from error


def _differences(given: Mapping[str, Any], made: Mapping[str, Any], cuts_left: bool) -> List[str]:
    found = differences(_meaning(given), _meaning(made))
    ends = [(given.get("truncation") or {}).get("direction") == "Left", cuts_left]
    if ends[0] != ends[1]:
        ours, theirs = ("beginning" if left else "end" for left in ends)
        found.append(f"the file cuts long texts at the {ours}, and transformers at the {theirs}")
    if not found and not _same_scores(given, made):
        found.append("the scores of its pieces are others in transformers")
    return found


def _meaning(description: Mapping[str, Any]) -> Dict[str, Any]:
    """What of a parsed ``tokenizer.json`` has a say in ids, spelled in one way."""
    from tokenizers import Tokenizer

    whole = json.loads(Tokenizer.from_str(json.dumps(description)).to_str())
    model: Dict[str, Any] = {key: value or None for key, value in whole["model"].items()}
    if model["type"] == "Unigram":
        model["vocab"] = [piece for piece, _ in model["vocab"]]
    if model["type"] == "BPE" and _spells_bytes(whole):
        # Every byte has a piece, so there are no unknown characters.
        model["unk_token"] = model["fuse_unk"] = model["byte_fallback"] = None
    processor = whole["post_processor"]
    added = [{**token, "special": None} for token in whole["added_tokens"]]
    around = SpecialTokens.from_json(processor)
    return {
        "normalizer": whole["normalizer"],
        "pre_tokenizer": whole["pre_tokenizer"],
        "template of one text": _short(around.single),
        "template of two texts": _short(around.pair),
        "trimmed spaces": trimmings(processor),
        "added tokens": added,
        "model": model,
    }


def _short(template: Sequence[Slot]) -> str:
    """A template in one text: the ids, and A or B for a text, in their order, each with its type."""
    names = [
        " ".join(map(str, slot.ids)) if slot.sequence is None else "AB"[slot.sequence] for slot in template
    ]
    return " ".join(f"{name}:{slot.type_id}" for name, slot in zip(names, template))


def _spells_bytes(description: Mapping[str, Any]) -> bool:
    from obert_edge.device.tokenizers.byte_level import BYTE_CHARACTERS

    words = description["pre_tokenizer"] or {}
    last = words["pretokenizers"][-1] if words.get("type") == "Sequence" else words
    vocabulary = description["model"]["vocab"]
    return last.get("type") == "ByteLevel" and all(c in vocabulary for c in BYTE_CHARACTERS.values())


def _same_scores(given: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    first, second = (one["model"].get("vocab") for one in (given, made))
    if not isinstance(first, list) or not isinstance(second, list):
        return True
    return all(math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME) for (_, a), (_, b) in zip(first, second))


def _check_agreement(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse files that disagree: without transformers nobody knows which of them wins.

    Raises:
        CheckpointError: they do.
    """
    config = read_json(folder / CONFIG) or {}
    for name, (said, found) in _disagreements(config, description).items():
        raise CheckpointError(
            f"{folder}: {CONFIG} says {name} is {said!r}, and {FILE} {found!r}",
            hint="pip install transformers, which knows which of them wins, or make the files agree",
        )


def _disagreements(config: Mapping[str, Any], description: Mapping[str, Any]) -> Dict[str, Tuple[Any, Any]]:
    """What ``tokenizer_config.json`` and ``tokenizer.json`` say, by name, where that is not the same."""
    found: Dict[str, Tuple[Any, Any]] = {}
    normalizer = description.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        for name, field in _BERT_FIELDS.items():
            if name in config and config[name] != normalizer.get(field):
                found[name] = config[name], normalizer.get(field)
    words = description.get("pre_tokenizer") or {}
    if "add_prefix_space" in config and words.get("type") == "ByteLevel":
        found["add_prefix_space"] = config["add_prefix_space"], words["add_prefix_space"]
    added = {str(token["id"]): token for token in description.get("added_tokens") or []}
    for id_, token in (config.get("added_tokens_decoder") or {}).items():
        same = {key: value for key, value in added.get(id_, {}).items() if key != "id"}
        found[f"the added token {id_}"] = token, same or None
    side = "left" if (description.get("truncation") or {}).get("direction") == "Left" else "right"
    found["truncation_side"] = config.get("truncation_side", side), side
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def tokenizer_facts(folder: Path) -> Dict[str, Any]:
    """What the manifest says of the tokenizer: ``class``, ``model_max_length`` (tokens), ``special_tokens``.

    It is read from ``tokenizer_config.json`` and ``special_tokens_map.json``; what they lack is left out.
    """
    config = read_json(Path(folder) / CONFIG) or {}
    facts: Dict[str, Any] = {}
    if isinstance(config.get("tokenizer_class"), str):
        facts["class"] = config["tokenizer_class"]
    longest = config.get("model_max_length", config.get("max_len"))
    if isinstance(longest, (int, float)) and not isinstance(longest, bool) and 0 < longest < _NO_LIMIT:
        facts["model_max_length"] = int(longest)
    special = {**(read_json(Path(folder) / "special_tokens_map.json") or {}), **config}
    tokens = {name: _content(special.get(name)) for name in _SPECIAL}
    facts["special_tokens"] = {name: token for name, token in tokens.items() if token}
    return facts


def _content(token: Any) -> Optional[str]:
    """A special token is a string, or an object with its ``content``."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def check_tokenizer(tokenizer: Optional[bytes], vocabulary: int, folder: Path) -> None:
    """Refuse a tokenizer that no device could read, or that makes ids the model has no embedding for.

    Args:
        tokenizer: a ``tokenizer.json``; None: there is nothing to check.
        vocabulary: rows of the model's word-embedding table.
        folder: what to call the model in errors.

    Raises:
        CheckpointError: it is such a one.
    """
    if tokenizer is None:
        return
    read = check_device_reads(tokenizer, folder)
    check_ids(read, vocabulary, folder)


def check_room(tokenizer: Optional[bytes], max_length: int, pairs: bool, folder: Path) -> None:
    """Refuse a length that the special tokens alone fill: no text would fit.

    Args:
        tokenizer: a ``tokenizer.json``; None: there is nothing to check.
        max_length: of the longest sequence, in tokens.
        pairs: whether every input is a pair of texts.
        folder: what to call the model in errors.

    Raises:
        CheckpointError: it is such a one.
    """
    if tokenizer is None:
        return
    special = DeviceTokenizer(tokenizer).special_tokens_added(pairs)
    least = special + (2 if pairs else 1)
    if max_length < least:
        raise CheckpointError(
            f"texts for {folder} are cut to {max_length} tokens, and {special} of them are special tokens "
            "around the text",
            hint=f"build with --max-length {least} or more (in Python max_length), or correct max_seq_length "
            "and model_max_length in the folder",
        )


def check_ids(tokenizer: DeviceTokenizer, vocabulary: int, folder: Path) -> None:
    """Refuse a tokenizer that makes ids the model has no embedding for: of pieces, added and special tokens.

    Raises:
        CheckpointError: it does.
    """
    beyond = sorted(id_ for id_ in tokenizer.ids if id_ >= vocabulary)
    if not beyond:
        return
    named = ", ".join(f"{tokenizer.token(id_)!r} ({id_})" for id_ in beyond[:3])
    added = all(id_ in tokenizer.added_ids for id_ in beyond)
    raise CheckpointError(
        f"the tokenizer of {folder} makes ids up to {beyond[-1]}, such as {named}; the model has "
        f"{vocabulary} word embeddings",
        hint="call model.resize_token_embeddings(len(tokenizer)), train the new tokens and save the model, "
        "or save the tokenizer without them"
        if added
        else "copy the tokenizer files that belong to this model",
    )
