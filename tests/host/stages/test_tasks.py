"""Whoever gives a stage a task's name or its data is told how to load a task."""

from __future__ import annotations

import inspect

import pytest

import obert_edge
from obert_edge.errors import UsageError
from obert_edge.host.stages import drop_layers, evaluate, finetune, transfer, trim_vocabulary

FUNCTIONS = [
    obert_edge.prune,
    obert_edge.quantize,
    finetune,
    transfer,
    drop_layers,
    trim_vocabulary,
    evaluate,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_name_or_data_in_place_of_a_task_is_refused(function, tmp_path):
    output = {} if function is evaluate else {"output": tmp_path / "out"}
    with pytest.raises(UsageError, match=f"{function.__name__} was given data=") as caught:
        function(tmp_path / "dense", task="mrpc", data="glue", **output)
    assert "from obert_edge.host.data import load_task" in caught.value.hint
    assert caught.value.hint.endswith("task=load_task('mrpc', 'glue')")
    with pytest.raises(UsageError, match="was given the str 'mrpc'; expected a task") as caught:
        function(tmp_path / "dense", task="mrpc", **output)
    assert caught.value.hint.endswith("task=load_task('mrpc', 'DIR')")


def test_the_task_may_be_given_by_its_place():
    with pytest.raises(UsageError, match="quantize was given the str 'sst2'"):
        obert_edge.quantize("dense", "sst2", "out")


def test_the_signature_stays_for_those_who_read_it():
    assert list(inspect.signature(obert_edge.prune).parameters)[:3] == ["model", "task", "output"]
    assert obert_edge.prune.__doc__.startswith("Prune a fine-tuned model folder.")
