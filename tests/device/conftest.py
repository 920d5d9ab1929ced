"""Small real bundles, built once, and a device with nothing on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.bundles import make_bundle
from tests.device.samples import Sample
from tests.device.samples import make_sample as sample_of


@pytest.fixture(scope="session")
def build_bundle(tmp_path_factory):
    """A function: transformers model class, config class and options to a bundle."""

    def make(model_class: str, config_class: str = "BertConfig", **options) -> Path:
        return make_bundle(tmp_path_factory.mktemp("model"), model_class, config_class, **options)

    return make


@pytest.fixture(scope="session")
def classifier(build_bundle) -> Path:
    return build_bundle(
        "BertForSequenceClassification", num_labels=3, id2label={0: "bad", 1: "so-so", 2: "good"}
    )


@pytest.fixture(scope="session")
def roberta_tagger(build_bundle) -> Path:
    return build_bundle("RobertaForTokenClassification", "RobertaConfig", num_labels=5)


@pytest.fixture(scope="session")
def answerer(build_bundle) -> Path:
    return build_bundle("BertForQuestionAnswering")


@pytest.fixture(scope="session")
def make_sample(tmp_path_factory):
    """A function: architecture, task and options of the model to a sample, each made once."""
    made: dict = {}

    def make(architecture: str, task: str = "sequence-classification", **options: Any) -> Sample:
        key = (architecture, task, *sorted(options.items()))
        if key not in made:
            made[key] = sample_of(tmp_path_factory.mktemp("sample"), architecture, task, **options)
        return made[key]

    return make


@pytest.fixture
def bare_device(tmp_path, classifier):
    """Runs ``python -I -S model.oeb ...`` in an empty folder with nothing importable but numpy."""
    packages = tmp_path / "packages"
    packages.mkdir()
    source = Path(np.__file__).parent
    (packages / "numpy").symlink_to(source)
    libraries = source.parent / "numpy.libs"
    if libraries.exists():
        (packages / "numpy.libs").symlink_to(libraries)
    folder = tmp_path / "device"
    folder.mkdir()
    shutil.copy(classifier, folder / "model.oeb")
    # -S leaves site-packages out, -I the environment: only this line lets numpy in.
    boot = (
        "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv[:] = sys.argv[2:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def execute(*arguments: str):
        command = [sys.executable, "-I", "-S", "-B", "-c", boot, str(packages), "model.oeb", *arguments]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        printed = json.loads(result.stdout) if "--json" in arguments else None
        text = result.stderr if printed is not None else result.stdout + result.stderr
        return result.returncode, printed, text

    execute.folder = folder
    return execute
