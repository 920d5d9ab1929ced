"""A bundle opens exactly when it is what was written."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obert_edge.bundle import archive
from obert_edge.bundle.archive import PREFIX
from obert_edge.bundle.container import CASES, MANIFEST, PROGRAM, WEIGHTS, Bundle, write_bundle
from obert_edge.bundle.hashes import CHUNK_BYTES, chunk_digests
from obert_edge.bundle.manifest import FORMAT_VERSION, MemberFacts
from obert_edge.errors import BundleError, UsageError
from tests.bundle.samples import sample_cases, sample_manifest, sample_members, write_sample


@pytest.fixture(scope="module")
def bundle_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_sample(tmp_path_factory.mktemp("bundle") / "m.oeb").read_bytes()


def rewritten(members: Dict[str, bytes], manifest_changes: dict | None = None) -> bytes:
    """A bundle of our own container with any members at all, hashed correctly."""
    facts = {name: MemberFacts(hashlib.sha256(data).hexdigest(), len(data)) for name, data in members.items()}
    manifest = sample_manifest(members=facts, **(manifest_changes or {}))
    stream = io.BytesIO()
    archive.write_archive(stream, {MANIFEST: manifest.to_json(), **members})
    return stream.getvalue()


def test_members_come_back_as_they_were_written(tmp_path: Path) -> None:
    with Bundle.open(write_sample(tmp_path / "m.oeb"), verify="full") as bundle:
        for name, data in sample_members().items():
            assert bytes(bundle.member(name)) == data
        assert bundle.manifest.task.labels == ["bad", "good"]
        assert bundle.program.max_positions == 16
        (case,), (written,) = bundle.cases, sample_cases()
        np.testing.assert_array_equal(case.outputs["logits"], written.outputs["logits"])
        assert WEIGHTS in bundle and "tokenizer.json" not in bundle


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    members = sample_members()
    first = write_bundle(tmp_path / "a.oeb", sample_manifest(), members)
    second = write_bundle(tmp_path / "b.oeb", sample_manifest(), dict(reversed(members.items())))
    assert first.read_bytes() == second.read_bytes()


def test_mapped_members_are_aligned_views_of_the_file(tmp_path: Path) -> None:
    with Bundle.open(write_sample(tmp_path / "m.oeb")) as bundle:
        for name in (WEIGHTS, PROGRAM, CASES, "engine/libobert_edge.so"):
            view = np.frombuffer(bundle.member(name), np.uint8)
            assert view.ctypes.data % archive.ALIGNMENT == 0
            assert not view.flags.writeable
        weights = np.frombuffer(bundle.weights, np.uint16)
    assert weights[999] == 999  # a view outlives the bundle


def test_any_zip_reader_can_read_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_sample(tmp_path / "m.oeb")) as opened:
        assert opened.testzip() is None
        assert {info.filename for info in opened.infolist()} == {MANIFEST, *sample_members()}
        assert all(info.compress_type == zipfile.ZIP_STORED for info in opened.infolist())
        assert opened.read(WEIGHTS) == sample_members()[WEIGHTS]


def test_python_runs_it(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "m.oeb")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "hello from the bundle"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_bundle_is_refused(bundle_bytes: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut.oeb"
    path.write_bytes(bundle_bytes[: data.draw(st.integers(0, len(bundle_bytes) - 1))])
    with pytest.raises(BundleError):
        Bundle.open(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(bundle_bytes: bytes, tmp_path: Path, data: st.DataObject) -> None:
    verify = data.draw(st.sampled_from(["checksums", "full"]))
    bit = data.draw(st.integers(0, 8 * len(bundle_bytes) - 1))
    damaged = bytearray(bundle_bytes)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "flipped.oeb"
    path.write_bytes(damaged)
    with pytest.raises(BundleError):
        Bundle.open(path, verify=verify)


@pytest.mark.parametrize("verify", ["checksums", "full"])
def test_flipped_weights_are_not_found_by_the_header_alone(
    bundle_bytes: bytes, tmp_path: Path, verify: str
) -> None:
    at = bundle_bytes.index(sample_members()[WEIGHTS])
    path = tmp_path / "m.oeb"
    path.write_bytes(bundle_bytes[:at] + b"\xff" + bundle_bytes[at + 1 :])
    with Bundle.open(path) as bundle, pytest.raises(BundleError, match="'weights.bin'.*altered"):
        bundle.check_weights()
    with pytest.raises(BundleError, match="'weights.bin'.*altered"):
        Bundle.open(path, verify=verify)


def test_only_the_full_check_compares_members_with_the_manifest(tmp_path: Path) -> None:
    members = sample_members()
    facts = {name: MemberFacts(hashlib.sha256(data).hexdigest(), len(data)) for name, data in members.items()}
    others = {
        **members,
        WEIGHTS: members[WEIGHTS][::-1],
    }  # put in by another program, with a checksum that fits
    stream = io.BytesIO()
    archive.write_archive(stream, {MANIFEST: sample_manifest(members=facts).to_json(), **others})
    path = tmp_path / "m.oeb"
    path.write_bytes(stream.getvalue())
    Bundle.open(path, verify="checksums").close()
    with pytest.raises(BundleError, match="'weights.bin'.*altered.*manifest"):
        Bundle.open(path, verify="full")


@pytest.mark.parametrize("verify", ["checksums", "full"])
@pytest.mark.parametrize("at", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES - 1])
def test_flipped_bytes_are_found_in_every_chunk(tmp_path: Path, at: int, verify: str) -> None:
    weights = bytes(3 * CHUNK_BYTES - 1) + b"!"
    path = write_bundle(tmp_path / "m.oeb", sample_manifest(), {**sample_members(), WEIGHTS: weights})
    with Bundle.open(path, verify=verify) as bundle:
        assert len(bundle.manifest.members[WEIGHTS].chunks) == 3
    content = bytearray(path.read_bytes())
    content[content.index(weights) + at] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="'weights.bin'.*altered"):
        Bundle.open(path, verify=verify)


def test_a_bundle_without_chunks_is_checked_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.oeb"
    content = rewritten(sample_members())  # as bundles were before there were chunks
    path.write_bytes(content)
    Bundle.open(path, verify="full").close()
    path.write_bytes(content.replace(sample_members()[WEIGHTS], sample_members()[WEIGHTS][::-1]))
    with pytest.raises(BundleError, match="'weights.bin'.*altered"):
        Bundle.open(path, verify="full")


def test_chunks_that_do_not_cover_a_member_are_refused(tmp_path: Path) -> None:
    members = sample_members()
    facts = {name: MemberFacts(hashlib.sha256(data).hexdigest(), len(data)) for name, data in members.items()}
    facts[WEIGHTS] = dataclasses.replace(facts[WEIGHTS], chunks=[*chunk_digests(members[WEIGHTS]), "00"])
    stream = io.BytesIO()
    manifest = sample_manifest(members=facts).to_json()
    archive.write_archive(stream, {MANIFEST: manifest, **members})
    path = tmp_path / "m.oeb"
    path.write_bytes(stream.getvalue())
    with pytest.raises(BundleError, match="'weights.bin'.*altered"):
        Bundle.open(path, verify="full")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 some other zip", "is not an obert-edge bundle"),
        (b"\x7fELF" + bytes(1000), "is not an obert-edge bundle"),
        (gzip.compress(b"a bundle"), "is packed.*run `obert-edge unpack"),
        (archive.PREFIX, "cut short"),
        (archive.PREFIX + bytes(100), "cut short"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"(?s){complaint}"):
        Bundle.open(path)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        Bundle.open(tmp_path / "missing.oeb")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(tmp_path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.oeb"
    path.write_bytes(rewritten(sample_members(), {"format_version": 9, "minimum_reader": 9}))
    with pytest.raises(BundleError, match=f"needs a reader of version 9.*up to {FORMAT_VERSION}"):
        Bundle.open(path)


def repacked(bundle_bytes: bytes, change) -> bytes:
    """The same members written by Python's zipfile, altered by ``change(zip, name, data) -> handled``."""
    source = zipfile.ZipFile(io.BytesIO(bundle_bytes))
    stream = io.BytesIO()
    stream.write(archive.PREFIX)
    with zipfile.ZipFile(stream, "w") as opened:
        for name in source.namelist():
            change(opened, name, source.read(name))
    return stream.getvalue()


def compress(opened: zipfile.ZipFile, name: str, data: bytes) -> None:
    opened.writestr(name, data, zipfile.ZIP_DEFLATED)


def link(opened: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name)
    if name == WEIGHTS:
        info.external_attr, data = 0o120777 << 16, b"/etc/passwd"
    opened.writestr(info, data)


@pytest.mark.parametrize("change", [compress, link])
def test_repacked_bundles_are_refused(bundle_bytes: bytes, tmp_path: Path, change) -> None:
    path = tmp_path / "m.oeb"
    path.write_bytes(repacked(bundle_bytes, change))
    with pytest.raises(BundleError, match="altered|repacked"):
        Bundle.open(path)


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    class Twice(dict):  # type: ignore[type-arg]
        def items(self):
            return [*super().items(), (WEIGHTS, b"other weights")]

    stream = io.BytesIO()
    archive.write_archive(stream, Twice({MANIFEST: sample_manifest().to_json(), **sample_members()}))
    path = tmp_path / "m.oeb"
    path.write_bytes(stream.getvalue())
    with pytest.raises(BundleError, match="'weights.bin' twice"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "name", ["../../evil.py", "obert_edge/../evil.py", "/etc/cron", "obert_edge/x.so", "extra.bin", "a b"]
)
def test_members_of_other_names_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.oeb"
    path.write_bytes(rewritten({**sample_members(), name: b"x"}))
    with pytest.raises(BundleError, match="allowed"):
        Bundle.open(path)
    with pytest.raises(UsageError, match="not a member a bundle can have"):
        write_bundle(path, sample_manifest(), {**sample_members(), name: b"x"})


@pytest.mark.parametrize("name", [PROGRAM, WEIGHTS, CASES])
def test_a_missing_member_is_named(tmp_path: Path, name: str) -> None:
    members = {key: data for key, data in sample_members().items() if key != name}
    path = tmp_path / "m.oeb"
    path.write_bytes(rewritten(members))
    with pytest.raises(BundleError, match=f"lacks {name}"):
        Bundle.open(path)
    with pytest.raises(UsageError, match=name):
        write_bundle(path, sample_manifest(), members)


def test_a_manifest_that_lists_other_members_is_refused(tmp_path: Path) -> None:
    members = sample_members()
    facts = {"ghost.bin": MemberFacts("00", 1)}
    stream = io.BytesIO()
    archive.write_archive(stream, {MANIFEST: sample_manifest(members=facts).to_json(), **members})
    path = tmp_path / "m.oeb"
    path.write_bytes(stream.getvalue())
    with pytest.raises(BundleError, match="disagree about members.*ghost.bin"):
        Bundle.open(path)


def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path / "m.oeb")
    before = path.read_bytes()

    def full_disk(stream, members) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("obert_edge.bundle.container.write_archive", full_disk)
    with pytest.raises(KeyboardInterrupt):
        write_sample(path, sparsity=0.9)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_ways_to_verify_and_closed_bundles(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "m.oeb")
    with pytest.raises(UsageError, match="'maybe' is none of 'header', 'checksums', 'full'"):
        Bundle.open(path, verify="maybe")
    bundle = Bundle.open(path)
    with pytest.raises(BundleError, match="no member 'tokenizer.json'"):
        bundle.member("tokenizer.json")
    bundle.close()
    with pytest.raises(BundleError, match="was closed"):
        bundle.member(WEIGHTS)


def test_a_bundle_that_is_larger_than_the_memory_says_so(tmp_path):
    (tmp_path / "large.oeb").write_bytes(PREFIX)
    os.truncate(tmp_path / "large.oeb", (1 << 32) - 1)  # no bytes on the disk
    code = (
        "import resource, sys\n"
        "from obert_edge.bundle import Bundle\n"
        "from obert_edge.errors import UnsupportedDeviceError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
        "try: Bundle.open(sys.argv[1])\n"
        "except UnsupportedDeviceError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large.oeb")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "not enough memory to read" in said
    assert "4294967295 bytes" in said
    assert "ulimit -v" in said
