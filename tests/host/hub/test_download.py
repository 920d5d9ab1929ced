"""Models by their names: what is fetched, what is kept, and what is said where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from obert_edge.bundle import Bundle
from obert_edge.cli import run_command
from obert_edge.errors import CheckpointError, HubError
from obert_edge.host.compiler import build
from obert_edge.host.hub.download import model_folder, needed_files
from tests.device.bundles import TEXTS
from tests.host.hub.conftest import MODEL, offline
from tests.host.hub.fake_hub import TOKEN, Files, Hub

NEEDED = {"README.md", "config.json", "model.safetensors", "tokenizer.json"}


def test_only_what_a_reader_opens_is_fetched(hub: Hub) -> None:
    folder = model_folder(MODEL)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == NEEDED
    assert hub.fetched() == NEEDED
    assert folder.name == hub.repositories[MODEL].refs["main"]


def test_a_build_by_name_has_its_commit_and_its_card(hub: Hub) -> None:
    path = build(MODEL, "x86", "by_name.oeb", calibration=TEXTS)
    with Bundle.open(path) as bundle:
        source = bundle.manifest.source
    assert (source.repository, source.commit) == (MODEL, hub.repositories[MODEL].refs["main"])
    assert (source.license, source.base_models) == ("apache-2.0", ["google/bert-small"])
    assert (source.languages, source.pipeline_tag) == (["en", "no"], "text-classification")


def test_a_revision_is_that_commits(hub: Hub) -> None:
    commit = hub.repositories[MODEL].refs["v1"]
    for revision in ("v1", commit):
        folder = model_folder(f"{MODEL}@{revision}")
        assert folder.name == commit
        assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "no", "1": "yes"}
    assert model_folder(MODEL).name != commit


def test_a_moved_branch_is_fetched_again(hub: Hub, files: Files) -> None:
    before = model_folder(MODEL)
    hub.repositories[MODEL].commit({"tokenizer_config.json": b"{}"})
    after = model_folder(MODEL)
    assert before != after
    assert (after / "tokenizer_config.json").is_file()
    assert [line for line in hub.requests if line.startswith("GET") and "safetensors" in line] == [
        f"GET /{MODEL}/resolve/{before.name}/model.safetensors"
    ]


@pytest.mark.parametrize("name", [MODEL, f"{MODEL}@v1"])
def test_what_was_fetched_works_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = model_folder(name)
    hub.requests.clear()
    offline(monkeypatch)
    assert model_folder(name) == folder
    assert not hub.requests


def test_an_unreachable_hub_leaves_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(MODEL)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert model_folder(MODEL) == folder
    with pytest.raises(HubError, match=r"http://127.0.0.1:9 could not be reached, and org/other"):
        model_folder("org/other")


def test_a_path_that_is_mistyped_is_no_matter_of_the_network_alone(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models/typo", "models/typo@v1"):
        with monkeypatch.context() as context:
            context.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
            with pytest.raises(
                HubError, match=f"^there is no folder {name} here, and .*not be reached"
            ) as caught:
                model_folder(name)
            assert caught.value.hint.startswith("check the path")
            with pytest.raises(HubError, match="^http://127.0.0.1:9 could not be reached"):
                model_folder(f"hub:{name}")
    offline(monkeypatch)
    with pytest.raises(
        HubError, match="^there is no folder models/typo here, and HF_HUB_OFFLINE is set"
    ) as caught:
        model_folder("models/typo")
    assert "check the path" in caught.value.hint


def test_offline_without_a_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(
        HubError, match="HF_HUB_OFFLINE is set, and org/small is not whole in the cache"
    ) as caught:
        model_folder(MODEL)
    assert "unset HF_HUB_OFFLINE" in caught.value.hint


def test_a_cut_download_goes_on_where_it_was(hub: Hub, files: Files) -> None:
    hub.cuts["model.safetensors"] = 1
    folder = model_folder(MODEL)
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    asked = [line for line in hub.requests if line.startswith("GET") and line.endswith("model.safetensors")]
    assert len(asked) == 2


def test_a_download_that_stays_cut_leaves_nothing_half(
    hub: Hub, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.cuts["model.safetensors"] = 10**6
    with pytest.raises(HubError, match="broke while it was asked to read org/small") as caught:
        model_folder(MODEL)
    assert "run the same again" in caught.value.hint
    # What has arrived is no model: neither offline, where all else is in the cache, nor as a folder.
    with monkeypatch.context() as context:
        offline(context)
        with pytest.raises(HubError, match="not whole in the cache"):
            model_folder(MODEL)
    hub.cuts.clear()
    assert (model_folder(MODEL) / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_missing_revision(hub: Hub) -> None:
    with pytest.raises(HubError, match=r"org/small has no revision 'v9'; it has main, v1"):
        model_folder(f"{MODEL}@v9")


def test_a_missing_repository_may_have_been_meant_as_a_folder(hub: Hub) -> None:
    with pytest.raises(
        HubError, match="there is no folder out/model here, and .* has no repository out/model"
    ):
        model_folder("out/model")


def test_a_private_repository_needs_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[MODEL].private = True
    with pytest.raises(HubError, match="keeps it private") as caught:
        model_folder(MODEL)
    assert "hf auth login" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert model_folder(MODEL).is_dir()


def test_a_gated_repository_says_so(hub: Hub) -> None:
    hub.repositories[MODEL].gated = True
    with pytest.raises(HubError, match="gated repository") as caught:
        model_folder(MODEL)
    assert f"{hub.url}/{MODEL}" in caught.value.hint


def test_a_repository_without_a_model(hub: Hub) -> None:
    hub.repository("org/data").commit({"rows.csv": b"1"})
    with pytest.raises(HubError, match=r"no model of transformers.*rows\.csv"):
        model_folder("org/data")


def test_a_folder_counts_first(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / MODEL).symlink_to(checkpoint)
    assert model_folder(MODEL) == Path(MODEL)
    assert not hub.requests


def test_what_is_neither_is_refused_as_a_folder(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="there is no model folder small"):
        build("small", "x86", "x.oeb")
    assert not hub.requests


def test_pickles_are_fetched_only_where_there_is_nothing_better() -> None:
    plain = ["config.json", "pytorch_model.bin", "tokenizer.json", "training_args.bin", "x.py"]
    assert needed_files(plain) == ["config.json", "pytorch_model.bin", "tokenizer.json"]
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "model.safetensors.index.json"
    modules = ["2_Dense/config.json", "2_Dense/pytorch_model.bin", "2_Dense/model.safetensors"]
    found = needed_files([*plain, *shards, index, *modules, "deep/er/config.json"])
    assert found == sorted(
        ["config.json", "tokenizer.json", *shards, index, "2_Dense/config.json", "2_Dense/model.safetensors"]
    )


def test_a_stage_takes_a_name_and_keeps_the_source(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("text,label\nthe film is good,good\nthe film is bad,bad\n")
    data = ["--task", "text", "--data", "rows.csv"]
    prune = ["prune", MODEL, "-o", "pruned", *data, "--method", "magnitude", "--epochs", "0"]
    assert run_command(prune) == 0
    assert run_command(["build", "pruned", "-o", "pruned.oeb", "--no-card"]) == 0
    capsys.readouterr()
    assert run_command(["inspect", "pruned.oeb", "--json"]) == 0
    printed = capsys.readouterr()
    source = json.loads(printed.out)["source"]
    assert (source["repository"], source["license"]) == (MODEL, "apache-2.0")
    assert f"from {MODEL} at commit {source['commit'][:12]}, license apache-2.0" in printed.err
    assert not Path("pruned.oeb.md").exists()


def test_the_environment_of_the_library_counts(hub: Hub, tmp_path: Path) -> None:
    """A process of its own, told by HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE alone."""
    code = "from obert_edge.host.hub.download import model_folder; print(model_folder('org/small@v1'))"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    printed = []
    for is_offline in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "HF_HUB_OFFLINE": is_offline},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert printed[0].startswith(str(tmp_path / "home"))
