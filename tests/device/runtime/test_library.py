"""The engine is the installed one where it fits, else the copy the bundle carries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import obert_edge
from obert_edge.bundle import container
from obert_edge.bundle.container import ENGINE, Bundle
from obert_edge.device.runtime import library, machine
from obert_edge.errors import UnsupportedDeviceError


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def rewritten(classifier, tmp_path):
    """A function: change the members of a bundle and write it anew, hashes and all."""

    def make(change):
        with Bundle.open(classifier) as bundle:
            members = {name: bytes(bundle.member(name)) for name in bundle.names if name != "manifest.json"}
            change(members)
            return container.write_bundle(tmp_path / "changed.oeb", bundle.manifest, members)

    return make


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(library, "installed_library", lambda: None)


def test_the_installed_engine_is_preferred(classifier):
    with obert_edge.load(classifier) as session:
        assert session.library is library.installed_library()


def test_the_carried_engine_runs_from_memory_with_the_same_bits(classifier, monkeypatch):
    ids = np.arange(5, 20)[None]
    with obert_edge.load(classifier) as session:
        expected = session.run(ids)["logits"].tobytes()
    monkeypatch.setattr(library, "installed_library", lambda: None)
    monkeypatch.setattr(library, "_carried_libraries", {})
    before = descriptors()
    with obert_edge.load(classifier) as session:
        assert str(session.library.path).startswith("/proc/self/fd/")
        assert session.run(ids)["logits"].tobytes() == expected
    assert descriptors() == before


def test_where_memory_files_are_missing_a_private_temporary_file_serves(
    classifier, nothing_installed, monkeypatch, tmp_path
):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(library, "_carried_libraries", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with obert_edge.load(classifier) as session:
        assert session.library.path.parent == tmp_path
        assert session.run([[5, 6]])["logits"].shape == (1, 3)
    assert list(tmp_path.iterdir()) == []


def test_without_proc_a_private_temporary_file_serves(classifier, nothing_installed, monkeypatch, tmp_path):
    """There is memory for the file, and no name for it."""
    stat = os.stat

    def without_proc(path, *arguments, **options):
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory")
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", without_proc)
    monkeypatch.setattr(library, "_carried_libraries", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = descriptors()
    with obert_edge.load(classifier) as session:
        assert session.library.path.parent == tmp_path
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["missing", "full"])
def test_a_temporary_folder_that_takes_no_file_is_named_with_the_fix(
    classifier, nothing_installed, monkeypatch, tmp_path, kind
):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(library, "_carried_libraries", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    if kind == "full":
        folder = tmp_path / "full"
        folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=False
        ).returncode:
            pytest.skip("no small disk can be mounted here")
        monkeypatch.setattr("tempfile.tempdir", str(folder))
    try:
        with pytest.raises(UnsupportedDeviceError, match="a file in the temporary folder: No s") as caught:
            obert_edge.load(classifier)
    finally:
        if kind == "full":
            subprocess.run(["umount", str(folder)], check=True)
    assert "TMPDIR" in caught.value.hint
    assert "glibc" not in caught.value.hint


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("/tmp/x.so: failed to map segment from shared object", "TMPDIR"),
        ("/lib/libc.so.6: version `GLIBC_2.28' not found (required by x.so)", "glibc 2.28"),
        ("/tmp/x.so: invalid ELF header", "rebuild the bundle"),
    ],
)
def test_the_hint_is_for_what_the_loader_says(
    classifier, nothing_installed, monkeypatch, tmp_path, reason, hint
):
    def refuse(path):
        raise OSError(reason)

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(library, "_carried_libraries", {})
    with pytest.raises(UnsupportedDeviceError, match="cannot be loaded here") as caught:
        obert_edge.load(classifier)
    assert reason in caught.value.message
    assert hint in caught.value.hint


def test_two_bundles_with_different_engines_each_run_on_their_own(classifier, rewritten, nothing_installed):
    def change(members):
        members[ENGINE] += b"another build"

    with obert_edge.load(classifier) as first, obert_edge.load(rewritten(change)) as second:
        assert first.library is not second.library
        assert first.library._functions._handle != second.library._functions._handle
        with obert_edge.load(classifier) as again:
            assert again.library is first.library


@pytest.mark.parametrize(("code", "name"), [(183, "aarch64"), (40, "armv7l"), (243, "riscv64")])
def test_a_bundle_for_another_cpu_is_refused_with_the_target_to_build_for(rewritten, code, name):
    def change(members):
        engine = bytearray(members[ENGINE])
        engine[18:20] = code.to_bytes(2, "little")
        members[ENGINE] = bytes(engine)

    with pytest.raises(UnsupportedDeviceError, match=name) as caught:
        obert_edge.load(rewritten(change))
    assert machine.architecture() in caught.value.message
    assert "--target" in caught.value.hint
    assert caught.value.exit_code == 3


def test_an_engine_that_cannot_be_loaded_says_why(rewritten, nothing_installed):
    def change(members):
        members[ENGINE] = members[ENGINE][:64]

    with pytest.raises(UnsupportedDeviceError, match=r"changed\.oeb cannot be loaded here") as caught:
        obert_edge.load(rewritten(change))
    assert "/proc/self/fd" not in caught.value.hint
    assert "glibc" in caught.value.hint


def test_without_any_engine_there_is_a_fix(rewritten, nothing_installed):
    with pytest.raises(UnsupportedDeviceError, match="carries no engine") as caught:
        obert_edge.load(rewritten(lambda members: members.pop(ENGINE)))
    assert "pip install" in caught.value.hint


def test_the_architecture_is_read_from_the_elf_header(classifier):
    with Bundle.open(classifier) as bundle:
        assert library.library_architecture(bundle.member(ENGINE)) == machine.architecture()
    assert library.library_architecture(memoryview(b"MZ not an ELF file at all")) is None
