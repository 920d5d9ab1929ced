from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import obert_edge
from obert_edge import cli
from obert_edge.host.stages.recipe import STAGES
from tests.host.stages.conftest import data, dense, encoder, task  # noqa: F401

GOLDEN = Path(__file__).parent / "golden" / "v3.oeb"
VERBS = [
    "bench",
    "build",
    "compress",
    "deploy",
    "doctor",
    "drop-layers",
    "evaluate",
    "finetune",
    "inspect",
    "keygen",
    "pack",
    "prune",
    "pull",
    "push",
    "quantize",
    "run",
    "serve",
    "sign",
    "transfer",
    "trim-vocabulary",
    "unpack",
    "verify",
]


def run(capsys, *arguments):
    code = cli.run_command([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_package_is_the_command_as_well():
    for command, code in (["--version"], 0), (["bench"], 2):
        words = [sys.executable, "-m", "obert_edge", *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert (done.stdout or done.stderr).startswith(("obert-edge, version ", "error: Missing argument"))


def test_every_verb_of_the_contract_has_help(capsys):
    assert sorted(cli.cli.commands) == VERBS
    for verb in VERBS:
        code, out, _ = run(capsys, verb, "--help")
        assert code == 0
        assert out.startswith("Usage: obert-edge " + verb)


def every_option(kind):
    yield from (one for one in kind.options() if not one.declared.recipe_only)
    for below in kind.parts().values():
        yield from every_option(below)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_declared_option_of_a_stage_is_on_its_verb(capsys, stage):
    code, out, _ = run(capsys, stage.verb, "--help")
    assert code == 0
    flags = [one.flag for one in every_option(stage.settings)]
    assert len(set(flags)) == len(flags)
    shown = set(out.replace("/", " ").replace(",", " ").split())
    assert set(flags) <= shown


def test_options_of_a_stage_reach_it(capsys, dense, data, tmp_path):  # noqa: F811
    arguments = ["prune", dense, "--task", "text", "--data", data, "-o", tmp_path / "out", "--json"]
    pruning = ["--gradients", "2", "--sparsity", "0.5", "--scope", "layer", "--relative-dampening"]
    pruning += ["--steps", "1", "--rewind-epochs", "1,2.5"]
    training = ["--max-steps", "2", "--max-length", "16", "--weight-decay", "0", "--hidden-states", "0.5"]
    code, out, _ = run(capsys, *arguments, *pruning, *training)
    report = json.loads(out)
    assert code == 0
    assert report["figures"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert report["pruning"]["relative_dampening"] is True
    assert report["pruning"]["rewind_epochs"] == [1.0, 2.5]
    assert report["training"]["weight_decay"] == 0


def test_a_sparse_model_can_be_transferred(capsys, encoder, data, tmp_path):  # noqa: F811
    arguments = ["transfer", encoder, "--task", "text", "--data", data, "--max-steps", "2"]
    code, out, _ = run(capsys, *arguments, "--max-length", "16", "-o", tmp_path / "out")
    assert code == 0 and "transfer: wrote" in out
    assert json.loads((tmp_path / "out" / "stage.json").read_text())["distillation"]["hardness"] == 0


def test_the_version_is_the_packages(capsys):
    from obert_edge import __version__

    assert __version__ in run(capsys, "--version")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prunne"], 2, "No such command"),
        (["prune", "x"], 2, "Missing option"),
        (["inspect", "nowhere.oeb"], 1, "nowhere.oeb"),
        (["compress", "nowhere.yaml"], 2, "there is no recipe"),
        (["finetune", "x", "--task", "sst3", "--data", "d", "-o", "o"], 2, "did you mean 'sst2'"),
        (["finetune", "x", "--task", "sst2", "--data", "nowhere", "-o", "o"], 1, "does not exist"),
        (["trim-vocabulary", "x", "-o", "o"], 2, "no corpus"),
        (["trim-vocabulary", "x", "-o", "o", "--task", "sst2"], 2, "--task and --data belong together"),
        (["drop-layers", "x", "--task", "sst2", "--data", "d", "-o", "o", "--keep", "0,b"], 2, "'0,b'"),
        (["prune", "x", "--task", "sst2", "--data", "d", "-o", "o", "--sparsity", "1.5"], 2, "sparsity"),
        (["finetune", "x", "--task", "sst2", "--data", "d", "-o", "o", "--limit", "0"], 2, "limit is 0"),
        (["finetune", "x", "--task", "sst2", "--data", "d", "-o", "o", "--seed", "-1"], 2, "[0, 4294967295]"),
        (
            ["finetune", "x", "--task", "sst2", "--data", "d", "-o", "o", "--seed", str(2**32)],
            2,
            "seed is 42",
        ),
        (["finetune", "x", "--task", "sst2", "--data", "d", "-o", "o", "--seed", "9" * 20], 2, "seed is 99"),
        (["evaluate", "x", "--task", "sst2", "--data", "d", "--limit", "-5"], 2, "limit is -5"),
    ],
)
def test_errors_are_one_line_with_a_fix_and_the_exit_code(capsys, arguments, code, message):
    found, out, err = run(capsys, *arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        (["prunne"], "No such command 'prunne'", "see `obert-edge --help`"),
        (["build", "x"], "Missing option '-o' / '--output'", "see `obert-edge build --help`"),
        (["build", "x", "-o"], "Option '-o' requires an argument", "see `obert-edge build --help`"),
        (["inspect"], "Missing argument 'BUNDLE'", "see `obert-edge inspect --help`"),
        (["bench", "x", "--nope"], "No such option '--nope'", "see `obert-edge bench --help`"),
        (["run", "x", "-5 degrees"], "No such option", "put -- before a text that begins with a dash; for"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_told_with_a_fix(capsys, arguments, message, fix):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.splitlines()[1].startswith(f"  fix: {fix}")
    code, out, _ = run(capsys, *arguments[:1], "--json", *arguments[1:])
    assert code == 2
    assert json.loads(out)["fix"].startswith(fix)


def test_a_value_out_of_range_is_a_usage_error(capsys, task_folder):
    code, _, err = run(
        capsys, "prune", "x", "--task", "text", "--data", task_folder, "-o", "o", "--sparsity", "1.5"
    )
    assert code == 2
    assert "sparsity is 1.5" in err


@pytest.fixture
def task_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\na,x\nb,y\n")
    return tmp_path / "data"


def test_a_folder_without_a_model_is_a_failed_check(capsys, task_folder, tmp_path):
    code, _, err = run(
        capsys, "finetune", tmp_path, "--task", "text", "--data", task_folder, "-o", tmp_path / "o"
    )
    assert code == 1
    assert "no config.json" in err
    assert "fix:" in err
    assert not (tmp_path / "o").exists()


def test_a_result_goes_to_stdout_and_beside_json_to_stderr(capsys):
    code, out, err = run(capsys, "inspect", GOLDEN)
    assert code == 0
    assert "task sequence-classification" in out
    assert not err
    code, json_out, err = run(capsys, "inspect", GOLDEN, "--json")
    assert code == 0
    assert isinstance(json.loads(json_out), dict)
    assert err == out


def test_an_error_goes_to_stderr_and_as_json_to_stdout(capsys, tmp_path):
    code, out, err = run(capsys, "inspect", tmp_path / "none.oeb")
    assert code == 1
    assert not out
    assert err.startswith("error: ")
    code, out, again = run(capsys, "inspect", tmp_path / "none.oeb", "--json")
    assert code == 1
    assert set(json.loads(out)) == {"error", "message", "fix"}
    assert again == err


@pytest.mark.parametrize(
    ("verb", "goes_on"),
    [("finetune", True), ("compress", True), ("trim-vocabulary", False), ("verify", False)],
)
def test_an_interrupt_speaks_of_checkpoints_only_where_there_are_some(capsys, monkeypatch, verb, goes_on):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli.commands[verb], "invoke", interrupted)
    words = {"compress": ["recipe.yaml"], "verify": [GOLDEN]}.get(verb, ["m", "-o", "o"])
    words += ["--task", "sst2", "--data", "d"] if verb == "finetune" else []
    code, _, err = run(capsys, verb, *words)
    assert code == 130
    assert err.strip().startswith("interrupted")
    assert ("checkpoint" in err) == goes_on


def test_a_terminal_of_another_encoding_gets_escapes(tmp_path):
    bundle = shutil.copy(GOLDEN, tmp_path / "日本.oeb")
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "obert_edge.cli", "inspect", bundle, *options],
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            capture_output=True,
            check=True,
        )
        assert b"\\u65e5\\u672c.oeb" in done.stdout


def test_a_missing_host_package_names_the_extra_to_install(capsys, monkeypatch, task_folder):
    def no_torch(*_, **__):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli, "_load_task", no_torch)
    code, _, err = run(capsys, "finetune", "x", "--task", "text", "--data", task_folder, "-o", "o")
    assert code == 2
    assert "pip install 'obert-edge[host]'" in err


def test_the_command_line_does_not_import_torch():
    code = "import sys, obert_edge.cli; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_trimmed_model_says_what_it_kept(capsys, tmp_path):
    from tests.host.stages.test_stage_trim import make

    make(tmp_path / "model", "bert")
    (tmp_path / "corpus.txt").write_text("the film was warm\n")
    arguments = ["trim-vocabulary", tmp_path / "model", "--corpus", tmp_path / "corpus.txt", "--json"]
    code, out, err = run(capsys, *arguments, "-o", tmp_path / "small")
    report = json.loads(out)
    assert code == 0 and report["output"] == str(tmp_path / "small")
    assert f"{report['figures']['kept']} of {report['figures']['pieces']} pieces" in err
    assert "100.00 % of 4 corpus tokens unchanged" in err


def test_layers_can_be_dropped_without_training(capsys, encoder, data, tmp_path):  # noqa: F811
    arguments = ["drop-layers", encoder, "--task", "text", "--data", data, "--keep", "1", "--epochs", "0"]
    code, out, _ = run(capsys, *arguments, "-o", tmp_path / "small")
    assert code == 0 and "drop: wrote" in out
    assert json.loads((tmp_path / "small" / "config.json").read_text())["num_hidden_layers"] == 1
    assert json.loads((tmp_path / "small" / "config.json").read_text())["architectures"] == ["BertModel"]
    code, _, err = run(capsys, *arguments[:6], "--keep", "0,5", "--epochs", "0", "-o", tmp_path / "none")
    assert code == 2 and "[0, 5] cannot be kept of 2" in err


def hints():
    """The texts of every hint, with the file and the line it stands in."""
    root = Path(obert_edge.__path__[0])
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for keyword in getattr(node, "keywords", []):
                if isinstance(node, ast.Call) and keyword.arg == "hint":
                    parts = [one for one in ast.walk(keyword.value) if isinstance(one, ast.Constant)]
                    text = " ".join(one.value for one in parts if isinstance(one.value, str))
                    yield f"{path.relative_to(root)}:{node.lineno}", text


def test_every_option_that_a_hint_names_exists():
    flags = {}
    for verb, command in cli.cli.commands.items():
        found = [one for one in command.get_params(click.Context(command)) if isinstance(one, click.Option)]
        flags[verb] = {flag for one in found for flag in (*one.opts, *one.secondary_opts)}
    known = set().union(*flags.values())
    named = [
        (where, flag) for where, hint in hints() for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", hint)
    ]
    assert named
    assert [(where, flag) for where, flag in named if flag not in known] == []
    calls = [
        (where, *call)
        for where, hint in hints()
        for call in re.findall(r"obert-edge ([a-z-]+)[^`]*?(--[a-z-]+)", hint)
    ]
    assert calls
    assert [call for call in calls if call[2] not in flags[call[1]]] == []


def test_evaluate_says_what_the_labels_are_and_takes_the_names_of_both_sides(capsys, dense, data, tmp_path):  # noqa: F811
    code, _, err = run(capsys, "evaluate", dense, "--task", "text", "--data", data)
    assert code == 0
    assert err.startswith("text: 2 classes (bad, good)\n")
    (tmp_path / "dev.csv").write_text("text,label\nwarm film,positive\ndull film,negative\n")
    asked = ["evaluate", dense, "--task", "text", "--data", tmp_path]
    code, _, err = run(capsys, *asked)
    assert code == 1
    assert "(bad, good)" in err
    assert "(negative, positive)" in err
    assert "--label-map 'bad=<negative or positive>'" in err
    code, out, _ = run(
        capsys, *asked, "--label-map", "bad=negative", "--label-map", "good=positive", "--json"
    )
    assert code == 0
    assert json.loads(out)["metrics"]["accuracy"] == 100.0
    code, _, err = run(capsys, *asked, "--label-map", "bad:negative")
    assert code == 2
    assert "write MODEL=DATA" in err


def test_evaluate_refuses_a_problem_of_another_type_and_an_agreement_with_nothing(capsys, dense, tmp_path):  # noqa: F811
    (tmp_path / "dev.csv").write_text("text,label\nwarm film,0.5\ndull film,1.5\n")
    code, _, err = run(capsys, "evaluate", dense, "--task", "text", "--data", tmp_path)
    assert code == 1
    assert "text: regression, column 'label' holds numbers 0.5 to 1.5" in err
    assert "--problem-type single_label" in err
    code, _, err = run(
        capsys, "evaluate", dense, "--task", "text", "--data", tmp_path, "--min-agreement", "99"
    )
    assert code == 2
    assert "--against" in err


def test_several_labels_lead_from_a_table_to_a_bundle(capsys, encoder, tmp_path):  # noqa: F811
    rows = [("warm film", "good;long"), ("dull film", "bad"), ("plot", ""), ("bright plot", "good")]
    for split in ("train", "dev"):
        lines = "".join(f"{text},{labels}\n" for text, labels in rows * 4)
        (tmp_path / f"{split}.csv").write_text("text,label\n" + lines)
    asked = ["--task", "text", "--data", tmp_path, "--label-separator", ";"]
    fast = ["--max-steps", "120", "--learning-rate", "3e-3", "--dropout", "0", "--max-length", "16"]
    code, _, err = run(capsys, "finetune", encoder, *asked, *fast, "-o", tmp_path / "tuned")
    assert code == 0
    assert "text: multi-label, 3 classes (bad, good, long)" in err
    short = ["--max-steps", "4", "--learning-rate", "1e-4", "--dropout", "0", "--max-length", "16"]
    code, _, err = run(capsys, "quantize", tmp_path / "tuned", *asked, *short, "-o", tmp_path / "quantized")
    assert code == 0
    code, _, err = run(capsys, "build", tmp_path / "quantized", "-o", tmp_path / "model.oeb")
    assert code == 0
    for model in ("tuned", "quantized", "model.oeb"):
        code, out, _ = run(capsys, "evaluate", tmp_path / model, *asked, "--json")
        assert code == 0
        assert json.loads(out)["metrics"]["micro_f1"] > (99 if model == "tuned" else 80)


def test_a_bundle_is_packed_and_unpacked(capsys, tmp_path):
    bundle = tmp_path / "v2.oeb"
    before = (Path(__file__).parent / "golden" / "v2.oeb").read_bytes()
    bundle.write_bytes(before)
    code, out, _ = run(capsys, "pack", bundle, "--json")
    small = tmp_path / "v2.oeb.gz"
    assert code == 0
    assert json.loads(out) == {
        "packed": str(small),
        "bytes": small.stat().st_size,
        "bundle_bytes": len(before),
    }
    bundle.unlink()
    code, out, _ = run(capsys, "unpack", small, "--json")
    assert code == 0
    assert json.loads(out) == {"bundle": str(bundle), "bytes": len(before)}
    assert bundle.read_bytes() == before
    code, _, err = run(capsys, "unpack", bundle)
    assert code == 2
    assert "does not end in .gz" in err
    code, _, err = run(capsys, "unpack", small, "--key", "ed25519:" + "0" * 64)
    assert code != 0
    assert bundle.read_bytes() == before


def test_an_interrupted_recipe_keeps_complete_stages(capsys, encoder, data, tmp_path, monkeypatch):  # noqa: F811
    from transformers import Trainer

    training_step = Trainer.training_step

    def interrupted(self, *args, **kwargs):
        if "quantize" in self.args.output_dir:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", interrupted)
    training = "{max_steps: 2, max_length: 16}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {encoder}\noutput: out\ntask: {{name: text, data: {data}, max_length: 16}}\n"
        f"finetune: {training}\nquantize: {{training: {training}}}\n"
    )
    code, _, err = run(capsys, "compress", recipe)
    assert code == 130
    assert "the stages that were complete stay" in err and "was not written" not in err
    assert (tmp_path / "out" / "1-finetune" / "stage.json").is_file()
    assert not (tmp_path / "out" / "2-quantize").exists()
    arguments = ["--task", "text", "--data", data, "-o", tmp_path / "quantized", "--max-steps", "2"]
    code, _, err = run(capsys, "quantize", tmp_path / "out" / "1-finetune", *arguments)
    assert code == 130
    assert "the output was not written" in err
