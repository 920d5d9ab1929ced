"""Damaged model folders: what transformers, sentence-transformers and we write into them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Dict, List

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.checkpoints.sentence_transformers import encoder_folder, lowercased
from obert_edge.host.checkpoints.tokenizer_files import check_tokenizer, read_tokenizer, tokenizer_facts
from obert_edge.host.compiler import build
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from tests.device.bundles import save_bert_tokenizer
from tests.fuzz.loop import Target
from tests.fuzz.mutations import change_bytes, change_json
from tests.host.compiler.tiny_checkpoints import make_model

#: File of a folder -> content.
Files = Dict[str, bytes]
_SMALL = {"hidden": 16, "heads": 2, "layers": 1}


class Checkpoints(Target):
    """Folders of several architectures, one with modules and one with quantization parameters."""

    name = "checkpoint"

    def prepare(self, folder: Path) -> None:
        torch.set_num_threads(1)
        transformers.logging.set_verbosity(transformers.logging.CRITICAL)
        self._folder = folder / "model"
        self._sources = [
            _classifier(folder / "bert"),
            _sentence_model(folder / "sentence"),
            _plain(folder / "modern", "modernbert", "sequence-classification"),
            _plain(folder / "nomic", "nomic_bert", "token-classification"),
            _plain(folder / "euro", "eurobert", "sequence-classification"),
            _plain(folder / "albert", "albert", "question-answering"),
            _plain(folder / "mobile", "mobilebert", "masked-lm"),
            _plain(folder / "roberta", "roberta", "token-classification"),
            _plain(folder / "electra", "electra", "question-answering"),
        ]

    def attempt(self, random: Random) -> None:
        files = dict(random.choice(self._sources))
        for _ in range(random.choice((1, 1, 2))):
            name = random.choice([one for one in files if files[one]])
            files[name] = _damaged(name, files[name], random)
        shutil.rmtree(self._folder, ignore_errors=True)
        for name, content in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # Building measures the model with torch, which takes some hundred times as long as reading it.
        if random.random() < 0.004:
            build(self._folder, "x86", self._folder.parent / "model.oeb")
        else:
            _read(self._folder, random)


def _read(folder: Path, random: Random) -> None:
    """What a build reads, short of computing with it."""
    checkpoint = Checkpoint.open(encoder_folder(folder))
    config = read_config(checkpoint)
    fuse(import_graph(checkpoint, config))
    Scales.load(checkpoint.folder, config.base)
    tokenizer_facts(checkpoint.folder)
    if random.random() < 0.2:
        tokenizer = read_tokenizer(checkpoint.folder)
        if tokenizer is not None:
            check_tokenizer(lowercased(tokenizer), config.vocabulary, checkpoint.folder)


def _damaged(name: str, content: bytes, random: Random) -> bytes:
    if name.endswith(".json"):
        return change_json(content, random)
    if not name.endswith(".safetensors") or random.random() < 0.1:
        return change_bytes(content, random)
    length = int.from_bytes(content[:8], "little")
    header = change_json(content[8 : 8 + length].strip(), random)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _plain(folder: Path, architecture: str, task: str) -> Files:
    make_model(architecture, task, **_SMALL).save_pretrained(folder)
    return _files(folder)


def _classifier(folder: Path) -> Files:
    """A BERT with a tokenizer and quantization parameters."""
    model = make_model("bert", "sequence-classification", **_SMALL)
    model.save_pretrained(folder)
    save_bert_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": True,
                "model_max_length": 64,
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True}},
            }
        )
    )
    (folder / "special_tokens_map.json").write_text(json.dumps({"cls_token": "[CLS]", "sep_token": "[SEP]"}))
    sites: Dict[str, Dict[str, float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            sites[f"{name}:input"] = {"scale": 0.03, "zero_point": 128}
        if name.endswith("attention.self"):
            for operand, zero in (("query", 128), ("key", 0), ("value", 0)):
                sites[f"{name}:{operand}"] = {"scale": 0.03, "zero_point": zero}
    content = {"format": 1, "method": "qat", "activations": "static", "sites": sites}
    (folder / "quantization.json").write_text(json.dumps(content))
    return _files(folder)


def _sentence_model(folder: Path) -> Files:
    """A BERT of sentence-transformers with modules of every kind."""
    make_model("bert", "encoder", **_SMALL).save_pretrained(folder)
    save_bert_tokenizer(folder)
    dense = {
        "in_features": 16,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Normalize", "Normalize"),
    ]
    kinds = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    written = {
        "modules.json": kinds,
        "config_sentence_transformers.json": {
            "prompts": {"query": "q: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "truncate_dim": 4,
        },
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": True},
        "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": dense,
    }
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    tensors = {"linear.weight": np.ones((8, 16), np.float32), "linear.bias": np.ones(8, np.float32)}
    save_file(tensors, str(folder / "2_Dense" / "model.safetensors"))
    return _files(folder)


def _files(folder: Path) -> Files:
    paths: List[Path] = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
