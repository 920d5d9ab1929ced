"""What a model folder holds goes through every stage; what is of other weights does not."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from obert_edge.bundle import Bundle
from obert_edge.host.compiler import build
from obert_edge.host.data import load_task
from obert_edge.host.stages import drop_layers, finetune, prune, quantize, transfer, trim_vocabulary
from obert_edge.host.stages.companions import companions
from obert_edge.host.stages.recipe import Training

SHORT = Training(max_steps=1, batch_size=16, max_length=16, dropout=0.0)
AT_ONCE = dataclasses.replace(SHORT, max_steps=0)
GOES = {
    "modules.json": '[{"path": "", "type": "sentence_transformers.models.Transformer"},'
    ' {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]',
    "1_Pooling/config.json": '{"pooling_mode_cls_token": true}',
    "2_Dense/config.json": "{}",
    "config_sentence_transformers.json": "{}",
    "sentence_bert_config.json": '{"max_seq_length": 20}',
    "tokenizer_config.json": "{}",
    "special_tokens_map.json": "{}",
    "chat_template.jinja": "{{ x }}",
    "LICENSE": "terms",
    "NOTICE.txt": "more terms",
}
VOCABULARY = {
    "sentencepiece.bpe.model": "x",
    "spm.model": "x",
    "unigram.json": "{}",
    "generation_config.json": "{}",
}
STAYS = {
    "pytorch_model.bin.index.json": "{}",
    "tf_model.h5": "x",
    "flax_model.msgpack": "x",
    "optimizer.pt": "x",
    "training_args.bin": "x",
    "trainer_state.json": "{}",
    "onnx/model.onnx": "x",
    "openvino/openvino_model.xml": "x",
    "checkpoint-5/model.safetensors": "x",
    "stage.json": '{"stage": "other"}',
    "train_log.csv": "step\n",
    "README.md": "numbers of another model",
    ".gitattributes": "x",
    "old.oeb": "x",
    "old.oeb.md": "the card of that bundle",
    "old.oeb.score.json": "{}",
    "old.oeb.previous": "x",
}


@pytest.fixture
def full(dense, tmp_path):
    """A model with everything that folders have been seen to hold."""
    folder = tmp_path / "full"
    shutil.copytree(dense, folder)
    for name, content in {**GOES, **VOCABULARY, **STAYS}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    save_file({"linear.weight": torch.ones(2, 2)}, folder / "2_Dense" / "model.safetensors")
    return folder


def run(name, source, task, output):
    if name == "finetune":
        finetune(source, task, output, training=SHORT, progress=False)
    elif name == "drop":
        drop_layers(source, task, output, keep=[0], training=AT_ONCE, progress=False)
    elif name == "transfer":
        transfer(source, task, output, training=SHORT, progress=False)
    elif name == "prune":
        prune(source, task, output, sparsity=0.5, method="magnitude", training=AT_ONCE, progress=False)
    elif name == "quantize":
        quantize(source, task, output, method="calibrate", training=SHORT, progress=False)
    else:
        trim_vocabulary(source, output, task=task, progress=False)


STAGES = ["finetune", "drop", "transfer", "prune", "quantize", "trim"]


@pytest.mark.parametrize("name", STAGES)
def test_what_belongs_to_the_model_goes_along_and_what_belongs_to_its_weights_does_not(
    full, task, tmp_path, name
):
    run(name, full, task, tmp_path / "o")
    for file, content in GOES.items():
        found = (tmp_path / "o" / file).read_text()
        assert found == content or json.loads(found) == json.loads(content), file
    assert load_file(tmp_path / "o" / "2_Dense" / "model.safetensors")["linear.weight"].sum() == 4
    for file in VOCABULARY:  # of the whole vocabulary, which a trimmed one is not
        assert (tmp_path / "o" / file).exists() == (name != "trim"), file
    for file, content in STAYS.items():
        path = tmp_path / "o" / file
        assert not path.exists() or path.read_text() != content, file
    assert (tmp_path / "o" / "tokenizer.json").is_file()


@pytest.fixture
def embedder(encoder, tmp_path):
    """A sentence-transformers folder that takes the first token and divides by its length."""
    folder = tmp_path / "embedder"
    shutil.copytree(encoder, folder)
    kinds = ["Transformer", "Pooling", "Normalize"]
    places = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, place) in enumerate(zip(kinds, places))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_cls_token": True})
    )
    return folder


@pytest.mark.parametrize("chain", [["prune"], ["quantize"], ["trim"], ["trim", "prune", "quantize"]], ids=str)
def test_the_bundle_of_an_embedder_pools_and_normalizes_as_before(embedder, tmp_path, chain):
    (tmp_path / "texts.txt").write_text("the warm film\na dull plot\n")
    task = load_task("text", tmp_path / "texts.txt", needs_labels=False)
    folder = embedder
    for number, name in enumerate(chain):
        run(name, folder, task, tmp_path / str(number))
        folder = tmp_path / str(number)
    bundles = [build(source, "x86", tmp_path / f"{source.name}.oeb") for source in (embedder, folder)]
    facts = []
    for path in bundles:
        with Bundle.open(path) as bundle:
            facts.append((bundle.manifest.task.pooling, bundle.manifest.task.normalize))
    assert facts[0] == facts[1] == ("cls", True)


def test_links_that_lead_out_of_the_folder_are_not_followed(dense, task, tmp_path, caplog):
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.json").write_text("{}")
    folder = tmp_path / "model"
    shutil.copytree(dense, folder)
    (folder / "modules.json").symlink_to(tmp_path / "secret.json")
    (folder / "1_Pooling").symlink_to(tmp_path / "outside")
    (folder / "inside.json").symlink_to(folder / "config.json")
    names = {path.name for path in companions(folder)}
    assert "inside.json" in names
    assert not names & {"modules.json", "x.json"}
    assert "leads out of its folder" in caplog.text


def test_the_cache_of_the_hub_is_read_through_its_links(dense, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "1f2e"
    blobs.mkdir(parents=True)
    (snapshot / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"):
        blob = blobs / name.replace("/", "-")
        blob.write_text("{}")
        (snapshot / name).symlink_to(blob)
    found = [str(path.relative_to(snapshot)) for path in companions(snapshot)]
    assert found == ["1_Pooling/config.json", "modules.json", "tokenizer.json"]
