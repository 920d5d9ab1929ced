"""What the doctor says must be what bench will find."""

from __future__ import annotations

import importlib.util

import pytest

from obert_edge.device.commands.doctor import doctor


@pytest.mark.parametrize(
    ("absent", "baseline", "fix"),
    [
        ("onnx", "baseline ONNX Runtime", "pip install onnx"),
        ("onnxruntime", "baseline ONNX Runtime", "pip install onnxruntime"),
        ("ai_edge_litert", "baseline LiteRT", "pip install ai-edge-litert"),
        ("openvino", "baseline OpenVINO", "pip install openvino"),
    ],
)
def test_a_baseline_is_ready_only_with_every_package_it_needs(monkeypatch, absent, baseline, fix):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name))
    findings = {finding.subject: finding for finding in doctor().findings}
    assert findings[baseline].severity == "info"
    assert absent in findings[baseline].found
    assert fix in findings[baseline].fix
