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

import obert_edge
from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import ARCHITECTURES, CLASS_SUFFIXES, Architecture, architecture_of
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


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_every_module_of_the_table_is_there_in_the_model(model_type: str, task: str) -> None:
    architecture = ARCHITECTURES[model_type]
    model = make_model(model_type, task, layers=1)
    base = "" if task == "encoder" else f"{architecture.prefix}."
    layer = base + architecture.layer.format(i=0)
    linears = [f"{layer}.{path}" for path in architecture.modules.linears]
    norms = [
        f"{layer}.{architecture.modules.attention_norm}",
        f"{layer}.{architecture.modules.output_norm}",
        base + architecture.embedding_norm,
    ]
    if architecture.projection:
        linears.append(base + architecture.projection)
    if task != "encoder":
        for step in architecture.heads[task].steps:
            (norms if isinstance(step, Norm) else linears).append(step.module.format(base=base))
            assert not isinstance(step, Decoder) or step is architecture.heads[task].steps[-1]
    modules = dict(model.named_modules())
    assert {type(modules[path]) for path in linears} == {nn.Linear}
    assert {type(modules[path]) for path in norms} == {nn.LayerNorm}
    attention = modules[f"{layer}.{architecture.modules.attention}"]
    assert all(isinstance(getattr(attention, name), nn.Linear) for name in architecture.modules.projections)


@every_architecture
def test_every_class_is_one_of_transformers_and_says_its_task(architecture: Architecture) -> None:
    for task in CLASS_SUFFIXES:
        assert hasattr(transformers, architecture.class_name(task))
        assert architecture.task_of(architecture.class_name(task)) == task
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
        known |= {*architecture.modules.linears, *architecture.modules.projections} - set(OPERANDS)
    found: List[str] = []
    for path in sorted(package.glob("**/*.py")):
        if path.parent.name != "architectures":
            nodes = ast.walk(ast.parse(path.read_text()))
            strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
            found += [f"{path.relative_to(package)}: {value!r}" for value in strings if value in known]
    assert not found
