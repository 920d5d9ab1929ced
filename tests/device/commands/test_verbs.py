"""The verbs, as the bundle itself runs them on a device with Python and numpy only."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from obert_edge import cli
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


def test_a_least_speedup_over_nothing_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(UsageError, match="over a baseline, and none was given") as caught:
        commands.bench(tmp_path / "not there.oeb", min_speedup=2.0)
    assert "--baseline" in caught.value.hint


def test_what_makes_bundles_is_said_to_be_a_hosts(bare_device):
    """Where the host's part is not installed, as in a bundle on ``sys.path``."""
    source = "import sys; sys.path[:0] = ['model.oeb']; import obert_edge; obert_edge.build"
    words = [sys.executable, "-I", "-S", "-c", source]
    done = subprocess.run(words, cwd=bare_device.folder, capture_output=True, text=True, timeout=120)
    last = done.stderr.split("UnsupportedDeviceError: ")[-1]
    assert "obert_edge.build makes bundles, which is done on a host" in last
    assert "pip install 'obert-edge[host]'" in last


def test_inspect_says_what_its_sparsities_are_of(classifier):
    outcome = commands.inspect(classifier)
    alone, all_of_them = (100 * outcome.data[name] for name in ("encoder_sparsity", "sparsity"))
    line = next(line for line in outcome.text.splitlines() if line.startswith("sparsity"))
    assert f"{alone:.1f} % in the linears of the encoder's layers" in line
    assert f"{all_of_them:.1f} % with those of pooler and head" in line
    assert "sparsity gains nothing" not in outcome.text


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


def test_a_line_ends_at_a_line_feed_and_nowhere_else(classifier, tmp_path):
    (tmp_path / "in.txt").write_bytes("\ufeffgood\u2028film\x0cnow\r\nbad".encode())
    items = commands.read_inputs(tmp_path / "in.txt")
    assert [item.value for item in items] == ["good\u2028film\x0cnow", "bad"]
    assert [item.where for item in items] == [f"line {n} of {tmp_path / 'in.txt'}" for n in (1, 2)]


def test_every_line_of_a_text_file_is_a_text(classifier, tmp_path):
    path = tmp_path / "in.txt"
    for content in ("good\n\n \nbad\n", "good\n\n \nbad", "good\r\n\r\n \r\nbad\r\n"):
        path.write_bytes(content.encode())
        assert [item.value for item in commands.read_inputs(path)] == ["good", "", " ", "bad"]
    assert commands.read_inputs(path)[3].where == f"line 4 of {path}"
    answers = commands.run(classifier, input_file=path).data["predictions"]
    assert [answers[0], answers[3]] == [
        commands.run(classifier, [text]).data["predictions"][0] for text in ("good", "bad")
    ]
    path.write_text("\n")
    assert [item.value for item in commands.read_inputs(path)] == [""]
    path.write_text("")
    with pytest.raises(UsageError, match="nothing to run"):
        commands.run(classifier, input_file=path)


def test_a_text_that_the_task_cannot_answer_is_named_with_its_line(build_bundle, tmp_path):
    bundle = build_bundle("BertForMaskedLM", task="masked-lm")
    (tmp_path / "in.txt").write_text("the film is [MASK]\n\nthe [MASK]\n")
    with pytest.raises(InputError, match="line 2 of .*: a text has no \\[MASK\\]") as caught:
        commands.run(bundle, input_file=tmp_path / "in.txt")
    assert "put [MASK] where" in caught.value.hint


@pytest.mark.parametrize("name", ["in.csv", "in.TSV", "in.conll"])
def test_rows_of_a_table_are_no_texts_unless_the_caller_says_so(classifier, tmp_path, name):
    path = tmp_path / name
    path.write_text("text,label\ngood,1\n")
    with pytest.raises(UsageError, match="a table by its name") as caught:
        commands.run(classifier, input_file=path)
    assert all(way in caught.value.hint for way in ("one text per line", ".jsonl", "--lines text"))
    assert [item.value for item in commands.read_inputs(path, "text")] == ["text,label", "good,1"]


@pytest.mark.parametrize("name", ["in.txt.gz", "in.jsonl.gz", "in.txt"])
@pytest.mark.parametrize("lines", [None, "text"])
def test_a_compressed_file_is_to_be_unpacked(classifier, tmp_path, name, lines):
    (tmp_path / name).write_bytes(gzip.compress(b"good\n"))
    with pytest.raises(UsageError, match="is compressed by gzip") as caught:
        commands.run(classifier, input_file=tmp_path / name, lines=lines)
    assert "gunzip -c" in caught.value.hint


def test_texts_side_by_side_are_embedded_one_by_one(build_bundle, tmp_path):
    bundle = build_bundle("BertModel", task="encoder")
    texts = ["the film is good", "hello world", "anna"]
    together = commands.run(bundle, texts).data["predictions"]
    assert together == [commands.run(bundle, [text]).data["predictions"][0] for text in texts]
    (tmp_path / "pair.jsonl").write_text(json.dumps(texts[:2]))
    (pair,) = commands.run(bundle, input_file=tmp_path / "pair.jsonl").data["predictions"]
    assert pair not in together


def test_texts_side_by_side_are_inputs_of_their_own_where_the_task_takes_no_pair(roberta_tagger):
    both = commands.run(roberta_tagger, ["anna", "bob"]).data["predictions"]
    assert both == [commands.run(roberta_tagger, [text]).data["predictions"][0] for text in ("anna", "bob")]


def test_two_texts_are_a_pair_to_classification_and_to_question_answering(classifier, answerer, capsys):
    for bundle in (classifier, answerer):
        assert len(commands.run(bundle, ["bob ?", "anna"]).data["predictions"]) == 1
        with pytest.raises(UsageError, match="3 texts"):
            commands.run(bundle, ["a", "b", "c"])
    for run in (bundle_main.main, cli.run_command):
        with contextlib.suppress(SystemExit):
            run(["run", "--help"])
        assert "two, which are one input: a pair" in " ".join(capsys.readouterr().out.split())


def test_lines_come_from_standard_input(bare_device):
    bundle = bare_device.folder / "model.oeb"
    words = [sys.executable, str(bundle), "run", "--json", "--input", "-"]
    for more, sent in ((), b"good\nbad\n"), (("--lines", "json"), b'"good"\n["bad", "so"]\n'):
        done = subprocess.run([*words, *more], input=sent, capture_output=True, check=True, timeout=120)
        assert len(json.loads(done.stdout)["predictions"]) == 2


def test_options_of_the_task_reach_its_pipeline(bare_device, answerer):
    question = ["bob ?", "anna lives in paris"]
    outcome = commands.run(answerer, question, options={"top_k": 2})
    assert len(outcome.data["predictions"][0]["alternatives"]) == 1
    shutil.copy(answerer, bare_device.folder / "model.oeb")
    code, found, text = bare_device("run", *question, "--top-k", "2", "--json")
    assert code == 0, text
    assert found["predictions"] == outcome.data["predictions"]
    code, found, _ = bare_device("run", *question, "--no-answer-margin", "1e9", "--json")
    assert found["predictions"][0]["text"] == ""
    assert found["options"]["no_answer_margin"] == 1e9


def test_the_answer_says_how_an_embedding_was_made(build_bundle):
    bundle = build_bundle("BertModel", task="encoder")
    for options in {}, {"normalize": True}, {"normalize": False}:
        found = commands.run(bundle, ["hello world"], options=options).data
        length = np.linalg.norm(found["predictions"][0]["vector"])
        assert found["task"] == "encoder"
        assert found["options"]["normalize"] is bool(abs(length - 1) < 1e-5)


def test_an_option_of_another_task_is_refused_with_those_there_are(classifier, answerer):
    with pytest.raises(UsageError, match="--top-k means nothing to this bundle.*sequence-classification"):
        commands.run(classifier, ["good"], options={"top_k": 2})
    with pytest.raises(UsageError, match="--normalize") as caught:
        commands.run(answerer, ["bob ?", "anna"], options={"normalize": True})
    assert "--top-k" in caught.value.hint
    with pytest.raises(UsageError, match="--top-k is 0"):
        commands.run(answerer, ["bob ?", "anna"], options={"top_k": 0})


def test_an_input_of_another_kind_is_named_with_its_place(classifier, answerer, tmp_path):
    (tmp_path / "in.jsonl").write_text('["bob ?", "anna"]\n{"question": "bob ?"}\n')
    with pytest.raises(InputError, match="line 2 of .*takes a pair") as caught:
        commands.run(answerer, input_file=tmp_path / "in.jsonl")
    assert '{"question": ..., "context": ...}' in caught.value.hint
    (tmp_path / "in.jsonl").write_text('"good"\n"\\ud800"\n')
    with pytest.raises(InputError, match="line 2 of .*lone surrogate") as caught:
        commands.run(classifier, input_file=tmp_path / "in.jsonl")
    assert caught.value.hint == "give UTF-8 text"


@pytest.mark.parametrize("verb", ["inspect", "verify", "run", "bench"])
@pytest.mark.parametrize("kind", ["folder", "empty", "text", "zip", "null", "pipe", "missing"])
def test_what_is_no_bundle_is_an_error_of_every_verb(capsys, tmp_path, verb, kind):
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    elif kind == "null":
        path = Path(os.devnull)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_text({"empty": "", "text": "hello"}[kind])
    words = [verb, *(["a text"] if verb == "run" else []), "--json"]
    assert bundle_main.main(words, str(path)) == 1
    assert cli.run_command([verb, str(path), *words[1:]]) == 1
    printed = capsys.readouterr()
    assert printed.out.count('"error": "BundleError"') == 2
    assert printed.err.count("fix: ") == 2


@pytest.mark.parametrize("words", [["dance"], ["run", "a", "--top-k", "x"], ["run", "a", "--no-such"]])
def test_a_wrong_command_line_is_json_too(capsys, words):
    for run, arguments in (bundle_main.main, words), (cli.run_command, [*words[:1], "m.oeb", *words[1:]]):
        assert run([*arguments, "--json"]) == 2
        out, err = capsys.readouterr()
        assert json.loads(out)["error"] == "UsageError"
        assert json.loads(out)["message"] in err
        assert json.loads(out)["fix"] in err and "--help`" in json.loads(out)["fix"]
        assert ("put -- before a text" in err) == ("--no-such" in words)


def test_bad_input_files_are_named_with_the_line(classifier, tmp_path):
    (tmp_path / "in.jsonl").write_text('"fine"\n{"text": \n')
    with pytest.raises(InputError, match="line 2"):
        commands.run(classifier, input_file=tmp_path / "in.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        commands.run(classifier, input_file=tmp_path / "missing.jsonl")
    (tmp_path / "in.jsonl").write_text('"fine"\n\n{"text": "a", "text_pair": "b", "text": "c"}\n')
    with pytest.raises(InputError, match="line 3 of .* has the key 'text' twice"):
        commands.run(classifier, input_file=tmp_path / "in.jsonl")
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
