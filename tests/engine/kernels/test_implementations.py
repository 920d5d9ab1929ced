"""Choosing an implementation: by name, by environment, and the ones this CPU cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from obert_edge.device.runtime.native import Library
from obert_edge.errors import UnsupportedDeviceError
from obert_edge.targets import get_target
from tests.engine.models import EncoderBuilder

ENCODER = EncoderBuilder(layers=1)
BLOBS = ENCODER.program.to_bytes(), ENCODER.weights


@pytest.fixture(autouse=True)
def no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OBERT_EDGE_IMPLEMENTATION", raising=False)


def test_scalar_runs_everywhere_and_comes_last(library: Library) -> None:
    assert library.implementations()[-1] == "scalar"


def test_the_list_is_a_part_of_the_table_in_its_order(library: Library) -> None:
    found = library.implementations()
    assert found == tuple(name for name in get_target("x86").implementations if name in found)


def test_the_best_is_the_default(library: Library) -> None:
    with library.open(*BLOBS) as model:
        assert model.implementation == library.implementations()[0]


def test_by_name(library: Library) -> None:
    for name in library.implementations():
        with library.open(*BLOBS, implementation=name) as model:
            assert model.implementation == name


def test_by_environment(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in library.implementations():
        monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", name)
        with library.open(*BLOBS) as model:
            assert model.implementation == name


def test_an_argument_beats_the_environment(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", "nonsense")
    with library.open(*BLOBS, implementation="scalar") as model:
        assert model.implementation == "scalar"


def test_an_empty_switch_is_no_switch(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", "")
    with library.open(*BLOBS) as model:
        assert model.implementation == library.implementations()[0]


def test_names_that_cannot_run_here(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [name for name in get_target("x86").implementations if name not in library.implementations()]
    for name in ["nonsense", "neon", *missing]:
        monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", name)
        with pytest.raises(UnsupportedDeviceError, match=f"'{name}' cannot run here.*scalar") as caught:
            library.open(*BLOBS)
        assert caught.value.exit_code == 3


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    path = tmp_path / "libobert_edge.so"
    path.write_bytes(b"not a library")
    with pytest.raises(UnsupportedDeviceError, match="cannot be loaded"):
        Library(path)
