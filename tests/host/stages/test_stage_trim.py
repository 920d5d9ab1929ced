"""A trimmed model is the same model for every text whose pieces are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from obert_edge.bundle import Bundle
from obert_edge.calibration import calibrate
from obert_edge.device.runtime.session import load
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.compiler import build
from obert_edge.host.quantization import load_quantized, save_quantized
from obert_edge.host.stages import compress, plan, trim_vocabulary
from obert_edge.host.stages.recipe import Recipe, TrimSettings
from tests.host.stages.test_vocabulary import CORPUS, KEPT_WORDS, TOKENIZERS

KINDS = {known.model_type: known.class_prefix for known in ARCHITECTURES.values()}
HEAD = "ForSequenceClassification"
#: In some, all pieces are kept; in the last, some went.
SAME, OTHER = ["the film was warm", "the plot and the film", "warm acting", ""], CORPUS[0]


def _added(tokenizer: Tokenizer) -> dict[str, object]:
    """The added tokens by id, as ``tokenizer_config.json`` has them."""
    entries = json.loads(tokenizer.to_str())["added_tokens"]
    return {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in entries}


def make(folder: Path, kind: str, head: str = HEAD) -> Tokenizer:
    """A random quantized model with its tokenizer in all files that transformers writes."""
    tokenizer = TOKENIZERS["bpe" if ARCHITECTURES[kind].positions_after_padding else "wordpiece"]
    sizes = {"vocab_size": tokenizer.get_vocab_size() + 1, "max_position_embeddings": 70, "num_labels": 3}
    if kind == "distilbert":
        sizes |= {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2}
    else:
        sizes |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
    if ARCHITECTURES[kind].fields.embedding == "embedding_size":
        sizes["embedding_size"] = 16
    if ARCHITECTURES[kind].bottleneck:
        sizes["intra_bottleneck_size"] = 16
    if ARCHITECTURES[kind].rotary:
        sizes |= {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    if kind == "eurobert":
        sizes["tie_word_embeddings"] = True  # which is every other family's default
    torch.manual_seed(1)
    model = getattr(transformers, f"{KINDS[kind]}{head}")(
        getattr(transformers, f"{KINDS[kind]}Config")(**sizes)
    )
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    batches = [{"input_ids": torch.randint(4, sizes["vocab_size"] - 1, (2, 12))}]
    save_quantized(calibrate(model, batches), None, folder, "calibrate")
    tokenizer.save(str(folder / "tokenizer.json"))
    ordered = sorted(tokenizer.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in ordered))
    (folder / "added_tokens.json").write_text(json.dumps({"newtok": tokenizer.token_to_id("newtok") or 0}))
    config = {"model_max_length": 64, "added_tokens_decoder": _added(tokenizer)}
    if kind not in ("bert", "distilbert", "electra", "mobilebert"):
        # The classes of other families would read a vocabulary of another form.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text(f"{KEPT_WORDS}\n")
    return file


def answers(bundle: Path, texts):
    with Bundle.open(bundle) as opened:
        tokenizer = Tokenizer.from_str(bytes(opened.member("tokenizer.json")).decode())
    tokenizer.no_padding()
    with load(bundle, threads=1) as session:
        return [session.run(np.array([tokenizer.encode(text).ids]))["logits"] for text in texts]


@pytest.mark.parametrize("embeddings", ["int8", "int4"])
@pytest.mark.parametrize("kind", KINDS)
def test_bundles_answer_to_the_bit_where_all_pieces_are_kept(tmp_path, corpus, kind, embeddings):
    tokenizer = make(tmp_path / "model", kind)
    report = trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], progress=False)
    whole = build(tmp_path / "model", output=tmp_path / "whole.oeb", embeddings=embeddings)
    small = build(tmp_path / "small", output=tmp_path / "small.oeb", embeddings=embeddings)
    for before, after in zip(answers(whole, SAME), answers(small, SAME)):
        assert before.tobytes() == after.tobytes()
    assert np.isfinite(answers(small, [OTHER])[0]).all()
    figures = report.figures.to_dict()
    with Bundle.open(small) as bundle:
        assert bundle.manifest.model.vocabulary == figures["kept"] < figures["pieces"]
    assert figures["pieces"] == tokenizer.get_vocab_size() + 1
    assert figures["unchanged"] == 100
    if embeddings == "int8":
        saved = whole.stat().st_size - small.stat().st_size
        assert saved == pytest.approx(
            1e6 * (figures["bundle_mb_saved"] + figures["tokenizer_mb_saved"]), abs=512
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_loses_the_same_rows_of_its_decoder(tmp_path, corpus, kind):
    tokenizer = make(tmp_path / "model", kind, "ForMaskedLM")
    trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], progress=False)
    old, new = (load_quantized(tmp_path / name) for name in ("model", "small"))
    small = Tokenizer.from_file(str(tmp_path / "small" / "tokenizer.json"))
    assert new.get_output_embeddings().weight is new.get_input_embeddings().weight
    places = [tokenizer.token_to_id(small.id_to_token(i)) for i in range(small.get_vocab_size())]
    text = SAME[0]
    with torch.no_grad():
        before = old(torch.tensor([tokenizer.encode(text).ids])).logits
        after = new(torch.tensor([small.encode(text).ids])).logits
    assert torch.equal(before[..., places], after)


def test_every_file_of_the_tokenizer_agrees(tmp_path, corpus):
    make(tmp_path / "model", "bert")
    trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], progress=False)
    small = Tokenizer.from_file(str(tmp_path / "small" / "tokenizer.json"))
    lines = (tmp_path / "small" / "vocab.txt").read_text().splitlines()
    assert lines == [small.id_to_token(i) for i in range(len(lines))]
    added = json.loads((tmp_path / "small" / "added_tokens.json").read_text())
    assert added == {"newtok": small.token_to_id("newtok")} and added["newtok"] == len(lines)
    settings = json.loads((tmp_path / "small" / "tokenizer_config.json").read_text())
    assert settings["added_tokens_decoder"] == _added(small)
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert config["vocab_size"] == small.get_vocab_size()
    assert (tmp_path / "small" / "quantization.json").is_file()


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_positions_after_padding_do_not_move(tmp_path, corpus, kind):
    make(tmp_path / "model", kind)
    trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], progress=False)
    assert json.loads((tmp_path / "small" / "config.json").read_text())["pad_token_id"] == 1


def test_the_pieces_of_a_task_are_those_of_its_train_split(encoder, task, tmp_path):
    report = trim_vocabulary(encoder, tmp_path / "small", task=task, progress=False)
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    words = sum(len(feature["input_ids"]) - 2 for feature in task.features("train", tokenizer))
    assert report.figures.corpus_tokens == words
    assert report.figures.kept == report.figures.pieces  # it uses every word of that vocabulary


def test_what_cannot_be_trimmed_is_refused(tmp_path, corpus):
    make(tmp_path / "model", "bert")
    with pytest.raises(UsageError, match="no corpus"):
        trim_vocabulary(tmp_path / "model", tmp_path / "small")
    with pytest.raises(UsageError, match="min_count is 0"):
        trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], min_count=0)
    with pytest.raises(UsageError, match="have to stay"):
        trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], keep=3, progress=False)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": 40}))
    with pytest.raises(CheckpointError, match="40 word embeddings"):
        trim_vocabulary(tmp_path / "model", tmp_path / "small", corpus=[corpus], progress=False)
    assert not (tmp_path / "small").exists()


def test_a_recipe_trims_before_anything_learns(encoder, data, tmp_path):
    recipe = Recipe.from_dict(
        {
            "model": str(encoder),
            "output": str(tmp_path / "out"),
            "task": {"name": "text", "data": str(data)},
            "trim": {"keep": 19},
            "finetune": {"max_steps": 2, "batch_size": 8, "max_length": 16},
            "quantize": {"training": {"max_steps": 2, "batch_size": 8, "max_length": 16}},
        }
    )
    assert [stage.stage for stage in plan(recipe).stages] == ["trim", "finetune", "quantize"]
    summary = compress(recipe, progress=False)
    assert [score.stage for score in summary.stages] == ["finetune", "quantize"]  # trim has no head
    config = json.loads((tmp_path / "out" / "3-quantize" / "config.json").read_text())
    assert config["vocab_size"] == 19
    assert compress(recipe, progress=False) == summary


def test_the_corpus_of_a_recipe_is_relative_to_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m\noutput: o\ntask: {name: sst2, data: d}\ntrim: {corpus: [more.txt], min_count: 2}\n"
    )
    assert Recipe.load(path).trim == TrimSettings(corpus=(str(tmp_path / "more.txt"),), min_count=2)
    with pytest.raises(UsageError, match="min_count is 0"):
        TrimSettings(min_count=0)
