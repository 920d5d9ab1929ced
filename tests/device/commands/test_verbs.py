"""The verbs, as the bundle itself runs them on a device with Python and numpy only."""

from __future__ import annotations

import json

import pytest

from obert_edge.device.commands import bundle_main
from obert_edge.device.commands import verbs as commands
from obert_edge.errors import InputError, UsageError


def test_a_bundle_verifies_itself_with_nothing_installed(bare_device):
    code, found, text = bare_device("verify", "--json")
    assert code == 0, text
    assert found["ok"]
    assert found["checks"]
    assert "verified" in text


def test_a_bundle_answers_with_nothing_installed(bare_device, classifier):
    code, found, text = bare_device("run", "the film is good", "--json")
    assert code == 0, text
    assert found["predictions"] == commands.run(classifier, ["the film is good"]).data["predictions"]


def test_a_bundle_benchmarks_itself_with_nothing_installed(bare_device):
    code, found, text = bare_device(
        "bench", "--json", "--iterations", "5", "--sequence-length", "16", "--profile"
    )
    assert code == 0, text
    assert found["latency_ms"]["runs"] == 5
    assert found["profile"]["ops"]
    assert "p50" in text
    assert "obert-edge" in text


def test_a_baseline_that_is_not_there_does_not_stop_the_others(bare_device):
    code, found, text = bare_device(
        "bench", "--json", "--iterations", "2", "--sequence-length", "8", "--baseline", "onnxruntime"
    )
    assert code == 0, text
    assert "pip install" in found["missing"]["onnxruntime-fp32"]
    code, _, text = bare_device("bench", "--sequence-length", "8", "--baseline", "onnxruntime-fp32")
    assert code == 3
    assert "pip install" in text


def test_a_bundle_describes_itself_and_the_machine(bare_device):
    code, found, text = bare_device("inspect", "--json")
    assert code == 0, text
    assert found["task"]["labels"] == ["bad", "so-so", "good"]
    assert found["estimated_speedup_over_dense"] > 0
    assert "bert.encoder.layer.0.attention.self.query" in text
    code, found, text = bare_device("doctor", "--json")
    assert code == 0, text
    assert found["worst"] in ("ok", "info", "warning")
    assert any(finding["subject"] == "tokenizers" and finding["fix"] for finding in found["findings"])


def test_nothing_is_left_behind(bare_device):
    bare_device("run", "hello")
    bare_device("bench", "--iterations", "1", "--sequence-length", "8")
    assert [path.name for path in bare_device.folder.iterdir()] == ["model.oeb"]


def test_errors_are_one_line_and_a_fix_and_the_exit_code_says_which(bare_device):
    code, found, text = bare_device("run", "--json")
    assert (code, found["error"]) == (2, "UsageError")
    assert text.startswith("error: there is nothing to run\n  fix: ")
    code, _, text = bare_device("run", "hello", "--implementation", "abacus")
    assert code == 3
    assert "Traceback" not in text
    code, _, text = bare_device("dance")
    assert code == 2
    code, _, _ = bare_device("bench", "--batch-size", "0")
    assert code == 2


def test_without_numpy_there_is_a_sentence(bare_device):
    (bare_device.folder.parent / "packages" / "numpy").unlink()
    code, _, text = bare_device("verify")
    assert code == 3
    assert "numpy is not installed" in text
    assert "Traceback" not in text


def test_a_truncated_bundle_is_an_error_of_a_check(classifier, tmp_path, capsys):
    (tmp_path / "cut.oeb").write_bytes(classifier.read_bytes()[:-100])
    assert bundle_main.main(["verify"], str(tmp_path / "cut.oeb")) == 1
    assert "copy the bundle again" in capsys.readouterr().err


def test_min_speedup_fails_the_command_but_still_reports(classifier):
    pytest.importorskip("onnxruntime")
    options = {"baselines": ["onnxruntime-fp32"], "iterations": 4, "sequence_length": 8, "threads": 1}
    outcome = commands.bench(classifier, min_speedup=1e6, **options)
    assert outcome.exit_code == 1
    assert outcome.data["error"] == "VerificationError"
    assert outcome.data["speedup"]
    assert "less than 1e+06" in outcome.text
    assert commands.bench(classifier, min_speedup=1e-6, **options).exit_code == 0


def test_inputs_come_from_arguments_and_files(classifier, answerer, tmp_path):
    lines = ['"the film is good"', '["hello", "world"]', "", '{"text": "bad"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    (tmp_path / "in.txt").write_text("the film is good\nbad\n")
    from_jsonl = commands.run(classifier, input_file=tmp_path / "in.jsonl").data["predictions"]
    from_text = commands.run(classifier, ["bad"], input_file=tmp_path / "in.txt").data["predictions"]
    assert len(from_jsonl) == 3
    assert from_text == [from_jsonl[2], from_jsonl[0], from_jsonl[2]]
    answer = commands.run(answerer, ["bob ?", "anna lives in paris"]).data["predictions"][0]
    assert answer["text"] == "anna lives in paris"[answer["start"] : answer["end"]]


def test_bad_input_files_are_named_with_the_line(classifier, tmp_path):
    (tmp_path / "in.jsonl").write_text('"fine"\n{"text": \n')
    with pytest.raises(InputError, match="line 2"):
        commands.run(classifier, input_file=tmp_path / "in.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        commands.run(classifier, input_file=tmp_path / "missing.jsonl")
    (tmp_path / "in.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        commands.run(classifier, input_file=tmp_path / "in.txt")
    with pytest.raises(UsageError, match="3 texts"):
        commands.run(classifier, ["a", "b", "c"])


def test_text_for_people_rounds_scores_and_shortens_vectors(build_bundle):
    bundle = build_bundle("BertModel", task="encoder")
    outcome = commands.run(bundle, ["hello world"])
    assert len(outcome.data["predictions"][0]["vector"]) == 32
    assert json.loads(outcome.text)["vector"][-1] == "... 32 values"


def test_doctor_finds_what_is_wrong_with_a_bundle(tmp_path, classifier, monkeypatch):
    (tmp_path / "cut.oeb").write_bytes(b"")
    broken = commands.doctor(tmp_path / "cut.oeb")
    assert broken.exit_code == 3
    assert broken.data["findings"][-1]["severity"] == "error"
    assert broken.data["findings"][-1]["fix"]
    monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", "abacus")
    forced = commands.doctor(classifier)
    assert forced.exit_code == 3
    assert "unset OBERT_EDGE_IMPLEMENTATION" in forced.text


def test_doctor_without_a_bundle_looks_at_the_machine():
    outcome = commands.doctor()
    subjects = [finding["subject"] for finding in outcome.data["findings"]]
    assert {"Python", "numpy", "CPU", "threads", "tokenizers", "engine"} <= set(subjects)
