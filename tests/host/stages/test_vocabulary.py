"""A smaller vocabulary cuts what it still knows as before, and never gives up on a text."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from obert_edge.device.tokenizers.tokenizer import Tokenizer as DeviceTokenizer
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.stages.vocabulary import choose_pieces, parse_tokenizer, trim_tokenizer

CORPUS = [
    "the unbelievable film was warm, bright and believable",
    "a dull plot; the actors act, acting and reacting badly 1984",
    "brighter scenes, warmest music: the filmmaker's best café",
]
KEPT_WORDS = "the film was warm and the plot acting"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_tokens([AddedToken("newtok")])
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


TOKENIZERS = {"wordpiece": wordpiece(), "bpe": bpe()}
each = pytest.mark.parametrize("name", TOKENIZERS)


def described(tokenizer: Tokenizer) -> Dict[str, Any]:
    return parse_tokenizer(tokenizer.to_str(), "the test")


def count(tokenizer: Tokenizer, texts: List[str]) -> np.ndarray:
    ids = [
        id_ for encoding in tokenizer.encode_batch(texts, add_special_tokens=False) for id_ in encoding.ids
    ]
    return np.bincount(np.array(ids, np.int64), minlength=tokenizer.get_vocab_size())


def trimmed(tokenizer: Tokenizer, texts: List[str], **options: Any) -> tuple[Tokenizer, List[int]]:
    description = described(tokenizer)
    choice = choose_pieces(description, count(tokenizer, texts), **options)
    return Tokenizer.from_str(json.dumps(trim_tokenizer(description, choice.ids))), choice.ids


SMALL = {name: trimmed(tokenizer, [KEPT_WORDS]) for name, tokenizer in TOKENIZERS.items()}
TEXTS = st.one_of(
    st.lists(st.sampled_from(" ".join([KEPT_WORDS, *CORPUS]).split() + ["newtok", "[MASK]", "<mask>"])).map(
        " ".join
    ),
    st.text("abcdefghilmnoprstuwy é,;'1489zq日", max_size=30),
)


@each
def test_pieces_go_and_ids_are_counted_anew_in_the_old_order(name: str) -> None:
    old, (new, ids) = TOKENIZERS[name], SMALL[name]
    assert new.get_vocab_size() == len(ids) < old.get_vocab_size()
    assert ids == sorted(ids)
    names = {id_: piece for piece, id_ in old.get_vocab().items()}
    assert [new.id_to_token(place) for place in range(len(ids))] == [names[id_] for id_ in ids]


@each
@settings(deadline=None)
@given(TEXTS)
def test_a_text_whose_pieces_are_all_kept_is_cut_as_before(name: str, text: str) -> None:
    old, (new, ids) = TOKENIZERS[name], SMALL[name]
    place = {id_: index for index, id_ in enumerate(ids)}
    before, after = old.encode(text), new.encode(text)
    if all(id_ in place for id_ in before.ids):
        assert after.ids == [place[id_] for id_ in before.ids]
        assert after.offsets == before.offsets


@each
@settings(deadline=None)
@given(TEXTS)
def test_nothing_that_had_pieces_becomes_unknown(name: str, text: str) -> None:
    old, (new, _) = TOKENIZERS[name], SMALL[name]
    unknown = {"wordpiece": "[UNK]", "bpe": "<unk>"}[name]
    before, after = old.encode(text), new.encode(text)
    assume(unknown not in before.tokens)
    assert unknown not in after.tokens
    assert "".join(after.tokens).replace("##", "") == "".join(before.tokens).replace("##", "")


@each
def test_the_device_reads_the_trimmed_file_alike(name: str) -> None:
    new, _ = SMALL[name]
    device = DeviceTokenizer(new.to_str(), backend="python")
    for text in [*CORPUS, KEPT_WORDS, "newtok zq 日"]:
        assert device.encode(text).ids == new.encode(text).ids


def test_every_id_in_the_file_is_renumbered() -> None:
    tokenizer = wordpiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    description = described(tokenizer)
    description["post_processor"] = {"type": "Sequence", "processors": [description["post_processor"]]}
    without_mask = [id_ for id_ in choose_pieces(description, count(tokenizer, [KEPT_WORDS])).ids if id_ != 1]
    result = trim_tokenizer({**description, "added_tokens": description["added_tokens"][2:]}, without_mask)
    assert result["padding"]["pad_id"] == 0
    assert result["post_processor"]["processors"][0] == {
        "type": "BertProcessing",
        "sep": ["[SEP]", 2],
        "cls": ["[CLS]", 1],
    }
    added = {token["content"]: token["id"] for token in result["added_tokens"]}
    assert added["newtok"] == len(without_mask) - 1
    assert described(tokenizer)["added_tokens"][2]["id"] == 2  # the original is untouched


@each
def test_the_most_frequent_pieces_stay(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    texts = ["film film film film warm warm warm the"]
    everything = trimmed(tokenizer, texts)[1]
    needed = choose_pieces(described(tokenizer), count(tokenizer, [""])).needed
    for size in range(needed, len(everything) + 1):
        new, ids = trimmed(tokenizer, texts, keep=size)
        assert needed <= len(ids) <= size
    twice = trimmed(tokenizer, texts, minimum=2)[0]
    first = {"wordpiece": "", "bpe": "\u0120"}[name]  # BPE's pieces begin with the space before them
    assert first + "film" in twice.get_vocab() and first + "the" not in twice.get_vocab()
    with pytest.raises(UsageError, match=f"{needed} pieces have to stay.*only {needed - 1} may"):
        trimmed(tokenizer, texts, keep=needed - 1)


def test_merges_stay_with_all_they_are_made_of() -> None:
    new, _ = SMALL["bpe"]
    model = json.loads(new.to_str())["model"]
    for left, right in model["merges"]:
        assert {left, right, left + right} <= set(model["vocab"])
    made = {left + right for left, right in model["merges"]}
    special = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}
    assert {piece for piece in model["vocab"] if len(piece) > 1} - special == made


def test_pieces_with_a_character_that_has_none_of_its_own_stay() -> None:
    vocabulary = {
        piece: i for i, piece in enumerate(["[UNK]", "a", "##a", "b", "##b", "xa", "ab", "##ay", "[unused0]"])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    choice = choose_pieces(described(tokenizer), np.zeros(9, np.int64))
    assert [piece for piece, id_ in vocabulary.items() if id_ in choice.ids] == [
        "[UNK]", "a", "##a", "b", "##b", "xa", "##ay"
    ]  # fmt: skip


def test_required_ids_stay() -> None:
    description = described(TOKENIZERS["wordpiece"])
    nothing = np.zeros(TOKENIZERS["wordpiece"].get_vocab_size(), np.int64)
    last = len(nothing) - 5
    assert last in choose_pieces(description, nothing, required=[last]).ids


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"model": {"type": "Unigram", "vocab": []}}', '{"model": {"vocab": {}}}']
)
def test_other_tokenizers_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_tokenizer(text, "here")
    assert "WordPiece" in str(caught.value.hint) and "here" in caught.value.message


def test_ids_without_an_embedding_are_refused() -> None:
    with pytest.raises(CheckpointError, match="the model has 7 word embeddings"):
        choose_pieces(described(TOKENIZERS["bpe"]), np.zeros(7, np.int64))


def unigram() -> str:
    """A Unigram with bytes, an unknown token and an added one."""
    pieces = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -3.0], ["a", -4.0]]
    pieces += [
        ["b", -4.0],
        ["ab", -5.0],
        ["\u2581ab", -5.5],
        ["rare", -30.0],
        ["aab", -7.0],
        ["<0x41>", -9.0],
    ]
    model = {"type": "Unigram", "unk_id": 3, "byte_fallback": False, "vocab": pieces}
    flags = {"single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 3, "content": "<unk>", **flags}, {"id": 12, "content": "<mask>", **flags}]
    words = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    return json.dumps({"version": "1.0", "added_tokens": added, "pre_tokenizer": words, "model": model})


def test_a_unigram_keeps_what_decides_what_is_unknown():
    description = parse_tokenizer(unigram(), "model")
    library = Tokenizer.from_str(unigram())
    counts = np.bincount(library.encode("ab a <mask>").ids, minlength=13)
    choice = choose_pieces(description, counts)
    trimmed = trim_tokenizer(description, choice.ids)
    kept = [piece for piece, _ in trimmed["model"]["vocab"]]
    assert {"<unk>", "\u2581", "a", "b", "\u2581ab", "rare", "<0x41>"} <= set(kept)
    assert not {"ab", "aab"} & set(kept)
    smaller = Tokenizer.from_str(json.dumps(trimmed))
    for text in ("ab a <mask>", "ab", "a\u7684b", "\u7684\u7684"):
        assert smaller.encode(text).tokens == library.encode(text).tokens
        assert [choice.ids[id_] for id_ in smaller.encode(text).ids] == library.encode(text).ids
    assert smaller.encode("aab").tokens == ["\u2581", "a", "a", "b"]


def test_a_unigram_without_an_unknown_token_cannot_be_trimmed():
    description = json.loads(unigram())
    description["model"]["unk_id"] = None
    with pytest.raises(CheckpointError, match="of kind 'Unigram'"):
        parse_tokenizer(json.dumps(description), "model")
