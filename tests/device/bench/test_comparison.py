"""What a benchmark compares with is named by what is different about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_edge.device.bench.comparison import OUR_ENGINE, Comparison, choose_comparisons
from obert_edge.errors import UsageError


def test_a_label_says_what_is_different():
    assert Comparison("litert-int8").label == "litert-int8"
    assert Comparison(OUR_ENGINE, threads=1).label == "obert-edge on 1 thread"
    assert (
        Comparison(OUR_ENGINE, threads=2, implementation="avx2").label == "obert-edge with avx2 on 2 threads"
    )
    assert Comparison("onnxruntime-fp32", bundle=Path("a/dense.oeb")).label == "onnxruntime-fp32 of dense"
    assert Comparison(OUR_ENGINE, threads=1, name="one").label == "one"


def test_groups_are_optional_and_what_is_named_exactly_is_required():
    one = Comparison(OUR_ENGINE, threads=1)
    found = choose_comparisons(["onnxruntime", "onnxruntime-int8", one, "onnxruntime"])
    assert [(baseline.label, required) for baseline, required in found] == [
        ("onnxruntime-fp32", False),
        ("onnxruntime-int8", True),
        ("obert-edge on 1 thread", True),
    ]


@pytest.mark.parametrize("name", ["tensorrt", Comparison("tensorrt")])
def test_an_unknown_engine_is_refused(name):
    with pytest.raises(UsageError, match="tensorrt"):
        choose_comparisons([name])
