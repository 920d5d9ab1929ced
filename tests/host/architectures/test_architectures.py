"""The table of architectures is true of transformers' models, and the only list of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
import transformers
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.eurobert.modeling_eurobert import EuroBertRMSNorm
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

import obert_edge
from obert_edge.bundle.ops import NormKind
from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import (
    _REFUSED,
    ARCHITECTURES,
    CLASS_SUFFIXES,
    Architecture,
    architecture_of,
)
from obert_edge.host.architectures.base import Decoder, Norm
from obert_edge.host.checkpoints.quantization_format import OPERANDS
from tests.host.compiler.tiny_checkpoints import CASES, make_model

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))


@every_architecture
def test_a_row_is_found_by_its_model_type(architecture: Architecture) -> None:
    assert architecture_of({"model_type": architecture.model_type}, "the model") is architecture


@pytest.mark.parametrize(
    "config", [{}, {"model_type": None}, {"model_type": ["bert"]}, {"model_type": "gpt2"}]
)
def test_another_model_type_is_refused_with_those_there_are(config: dict) -> None:
    with pytest.raises(CheckpointError, match=r"folder is a .* model; supported are bert, distilbert"):
        architecture_of(config, "folder")


@pytest.mark.parametrize(
    ("model_type", "why", "nearest"),
    [
        ("deberta", "multiplies with relative positions", "deberta-v2"),
        ("convbert", "convolutions", "distilbert"),
        ("t5", "with a decoder", "roberta"),
        ("gpt2", "left to right", "roberta"),
        ("llama", "left to right", "roberta"),
        ("roformer", "rotary", "modernbert"),
        ("xlm-roberta-xl", "before each block", "xlm-roberta"),
        ("longformer", "pairs of tokens", "modernbert"),
    ],
)
def test_what_is_refused_says_why_and_what_comes_nearest(model_type: str, why: str, nearest: str) -> None:
    with pytest.raises(CheckpointError, match=why) as caught:
        architecture_of({"model_type": model_type}, "folder")
    assert f"folder is a {model_type!r} model; supported are bert, distilbert" in str(caught.value)
    assert nearest in str(caught.value.hint)


def test_refused_types_are_types_of_transformers_and_not_supported() -> None:
    """So that a reason does not outlive its cause."""
    assert not set(_REFUSED) & set(ARCHITECTURES)
    assert set(_REFUSED) <= set(CONFIG_MAPPING_NAMES)


@pytest.mark.parametrize("model_type", ["bert", "nomic_bert", "roformer"])
def test_code_of_its_own_is_refused_also_under_a_known_name(model_type: str) -> None:
    """jina-embeddings-v2 calls itself bert, and adds ALiBi by its own code."""
    code = {"AutoConfig": "configuration_bert.JinaBertConfig", "AutoModel": "modeling_bert.JinaBertModel"}
    with pytest.raises(CheckpointError, match=r"auto_map: modeling_bert\.JinaBertModel") as caught:
        architecture_of({"model_type": model_type, "auto_map": code}, "folder")
    assert ("own NomicBertModel" in caught.value.hint) == (model_type == "nomic_bert")


def test_a_tokenizer_of_its_own_is_no_code_of_the_model() -> None:
    config = {"model_type": "bert", "auto_map": {"AutoTokenizer": ["tokenization.Own", None]}}
    assert architecture_of(config, "folder") is ARCHITECTURES["bert"]


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_every_module_of_the_table_is_there_in_the_model(model_type: str, task: str) -> None:
    architecture = ARCHITECTURES[model_type]
    model = make_model(model_type, task, layers=2)
    base = "" if task == "encoder" else f"{architecture.prefix}."
    layer = base + architecture.layer_paths(model.config.to_dict())[1]
    parts = range(getattr(model.config, architecture.bottleneck.count) - 1) if architecture.bottleneck else ()
    linears = [f"{layer}.{path}" for path in architecture.layer_linears(parts)]
    norms = [
        f"{layer}.{architecture.modules.attention_norm}",
        f"{layer}.{architecture.modules.output_norm}",
    ]
    if architecture.embedding_norm:
        norms.append(base + architecture.embedding_norm)
    if architecture.final_norm:
        norms.append(base + architecture.final_norm)
    if architecture.bottleneck:
        names = architecture.bottleneck
        norms += [f"{layer}.{path}" for path in (names.entry_norm, names.shared_norm, names.exit_norm)]
        norms += [f"{layer}.{names.output_norm.format(k=k)}" for k in parts]
    head_norms = []
    if architecture.projection:
        linears.append(base + architecture.projection)
    if task != "encoder":
        for step in architecture.heads[task].steps:
            (head_norms if isinstance(step, Norm) else linears).append(step.module.format(base=base))
            assert not isinstance(step, Decoder) or step is architecture.heads[task].steps[-1]
    modules = dict(model.named_modules())
    assert {type(modules[path]) for path in linears} == {nn.Linear}
    kinds = {NormKind.LAYER: nn.LayerNorm, NormKind.RMS: EuroBertRMSNorm, NormKind.NONE: NoNorm}
    assert {type(modules[path]) for path in norms} == {kinds[architecture.norm]}
    assert {type(modules[path]) for path in head_norms} <= {nn.LayerNorm}
    attention = modules[f"{layer}.{architecture.modules.attention}"]
    assert all(isinstance(getattr(attention, name), nn.Linear) for name in architecture.modules.projections)


@every_architecture
def test_every_class_is_one_of_transformers_and_says_its_task(architecture: Architecture) -> None:
    for task in CLASS_SUFFIXES:
        there = hasattr(transformers, architecture.class_name(task))
        assert there == (task in architecture.tasks)
        assert architecture.task_of(architecture.class_name(task)) == (task if there else None)
    for name, task in architecture.class_tasks.items():
        assert hasattr(transformers, name)
        assert architecture.task_of(name) == task
    assert architecture.task_of(f"{architecture.class_prefix}ForMultipleChoice") is None


def test_the_table_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, obert_edge.host.architectures\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_other_module_names_an_architecture_or_its_tensors() -> None:
    """So that adding an architecture is its file and its row."""
    package = Path(obert_edge.__file__).parent
    known = {architecture.model_type for architecture in ARCHITECTURES.values()}
    for architecture in ARCHITECTURES.values():
        known |= {*architecture.layer_linears(["0"]), *architecture.modules.projections} - set(OPERANDS)
    known = {name for name in known if len(name) > 1}  # MPNet's "k" is also a field of an op
    found: List[str] = []
    for path in sorted(package.glob("**/*.py")):
        if path.parent.name != "architectures":
            nodes = ast.walk(ast.parse(path.read_text()))
            strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
            found += [f"{path.relative_to(package)}: {value!r}" for value in strings if value in known]
    assert not found
