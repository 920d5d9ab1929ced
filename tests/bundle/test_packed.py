"""The packed form of a bundle gives the same bundle back, or an error and what was there before."""

from __future__ import annotations

import gzip
import lzma
import random
from pathlib import Path

import pytest

from obert_edge.bundle import packed
from obert_edge.bundle.container import WEIGHTS, Bundle, write_bundle
from obert_edge.bundle.packed import pack_bundle, unpack_bundle
from obert_edge.errors import BundleError, UsageError, VerificationError
from tests.bundle.samples import sample_manifest, sample_members, write_sample
from tests.bundle.test_signature import OTHER, OURS


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "model.oeb")


@pytest.fixture
def small(bundle: Path) -> Path:
    return pack_bundle(bundle, bundle.with_name("model.oeb.gz"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_bundle_comes_back_and_the_same_packed_one(
    bundle: Path, small: Path, tmp_path: Path
) -> None:
    assert small.stat().st_size < bundle.stat().st_size
    again = unpack_bundle(small, tmp_path / "again.oeb")
    assert again.read_bytes() == bundle.read_bytes()
    assert pack_bundle(again, tmp_path / "again.gz").read_bytes() == small.read_bytes()


def test_any_gzip_reads_and_writes_it(bundle: Path, small: Path, tmp_path: Path) -> None:
    with gzip.open(small) as stream:
        assert stream.read() == bundle.read_bytes()
    theirs = tmp_path / "theirs.gz"
    theirs.write_bytes(gzip.compress(bundle.read_bytes(), 1))
    assert unpack_bundle(theirs, tmp_path / "again.oeb").read_bytes() == bundle.read_bytes()


def test_what_would_not_be_unpacked_is_not_packed(tmp_path: Path) -> None:
    members = {**sample_members(), WEIGHTS: bytes(1 << 22)}
    zeros = write_bundle(tmp_path / "zeros.oeb", sample_manifest(), members)
    with pytest.raises(BundleError, match="times as large as its packed form"):
        pack_bundle(zeros, tmp_path / "zeros.gz")
    assert files(tmp_path) == ["zeros.oeb"]


def test_a_signed_bundle_stays_signed(tmp_path: Path) -> None:
    signed = write_bundle(tmp_path / "m.oeb", sample_manifest(), sample_members(), OURS)
    small = pack_bundle(signed, tmp_path / "m.oeb.gz")
    with Bundle.open(unpack_bundle(small, tmp_path / "n.oeb", [OURS.key]), trusted_keys=[OURS.key]) as bundle:
        assert bundle.manifest.signature.key == OURS.key
    before = (tmp_path / "n.oeb").read_bytes()
    with pytest.raises(VerificationError):
        unpack_bundle(small, tmp_path / "n.oeb", [OTHER.key])
    assert (tmp_path / "n.oeb").read_bytes() == before


def damaged_forms(data: bytes, plain: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "empty": b"",
        "no gzip": plain,
        "xz": lzma.compress(plain),
        "cut": data[:-30],
        "cut by a byte": data[:-1],
        "cut to a header": data[:10],
        "a flipped bit": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
        "bytes after it": data + b"\0",
        "a second stream": data + data,
        "a million zeros": gzip.compress(bytes(1 << 20)),
        "a flipped byte of the bundle": gzip.compress(plain[:100] + b"x" + plain[101:]),
        "an altered member": gzip.compress(plain.replace(b"GREETING", b"greeting")),
    }


@pytest.mark.parametrize("how", damaged_forms(b"0" * 40, b"1" * 200))
def test_what_is_no_packed_bundle_is_refused_and_leaves_nothing(
    bundle: Path, small: Path, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    path = folder / "bad.oeb.gz"
    path.write_bytes(damaged_forms(small.read_bytes(), bundle.read_bytes())[how])
    older = folder / "older.oeb"
    was_there = b"#!/usr/bin/env python3\nan older bundle"
    older.write_bytes(was_there)
    for output in (older, folder / "new.oeb"):
        with pytest.raises(BundleError) as caught:
            unpack_bundle(path, output)
        assert caught.value.hint
    assert files(folder) == ["bad.oeb.gz", "older.oeb"]
    assert older.read_bytes() == was_there


def test_little_is_written_of_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on what is written, not on what is found too large when it is there."""
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(random.Random(0).randbytes(1 << 16) + bytes(64 << 20), 1))
    sizes: list[int] = []
    unpacked = packed._unpacked

    def counted(*arguments: object) -> object:
        for block in unpacked(*arguments):  # type: ignore[arg-type]
            sizes.append(len(block))
            yield block

    monkeypatch.setattr(packed, "_unpacked", counted)
    with pytest.raises(BundleError, match="which no bundle of this packed size has"):
        unpack_bundle(bomb, tmp_path / "m.oeb")
    assert 0 < max(sizes) <= 1 << 20
    assert sum(sizes) <= 64 * bomb.stat().st_size < 32 << 20


def test_only_a_whole_bundle_is_packed(bundle: Path, tmp_path: Path) -> None:
    bundle.write_bytes(bundle.read_bytes().replace(b"GREETING", b"greeting"))
    with pytest.raises(BundleError, match="altered"):
        pack_bundle(bundle, tmp_path / "m.gz")
    assert files(tmp_path) == ["model.oeb"]


def test_the_input_is_not_written_over(bundle: Path, small: Path) -> None:
    for do, path in ((pack_bundle, bundle), (unpack_bundle, small)):
        before = path.read_bytes()
        with pytest.raises(UsageError, match="is the input"):
            do(path, path.parent / "." / path.name)
        assert path.read_bytes() == before


KEY = b"-----BEGIN PRIVATE KEY-----"


def test_nothing_but_an_older_output_is_written_over(bundle: Path, small: Path, tmp_path: Path) -> None:
    for write, source, kind in ((pack_bundle, bundle, "packed bundle"), (unpack_bundle, small, "bundle")):
        mine = tmp_path / "mine"
        mine.write_bytes(KEY)
        with pytest.raises(UsageError, match=f"mine is there already and is no {kind}: it would be lost"):
            write(source, mine)
        assert mine.read_bytes() == KEY
        mine.write_bytes(b"")  # an empty file, as mktemp makes it
        older = write(source, mine).read_bytes()
        assert write(source, mine).read_bytes() == older


@pytest.mark.parametrize("name", ["absent.gz", "."])
def test_a_path_that_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="is no file"):
        unpack_bundle(tmp_path / name, tmp_path / "m.oeb")
