"""Writing whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.files import atomic_file, atomic_folder, check_apart, check_file, check_folder, new_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "model.oeb"
    with atomic_file(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["model.oeb"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "model.oeb"
    target.write_bytes(b"old")
    with pytest.raises(failure), atomic_file(target) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model.oeb"]


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path):
    with pytest.raises(ObertEdgeError, match="disk is full") as caught, atomic_file(tmp_path / "m.oeb"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free space" in caught.value.hint
    assert names(tmp_path) == []


def test_a_real_full_disk_is_explained(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(ObertEdgeError, match="disk is full"), atomic_file(tmp_path / "m.oeb"):
        full.open("wb", buffering=0).write(b"x")
    assert names(tmp_path) == []


def test_a_folder_appears_only_when_the_block_ends(tmp_path):
    target = tmp_path / "pruned"
    with atomic_folder(target) as temporary:
        (temporary / "config.json").write_text("{}")
        assert not target.exists()
    assert names(target) == ["config.json"]
    assert names(tmp_path) == ["pruned"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "pruned"
    target.mkdir()
    (target / "old").write_text("kept")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target, overwrite=True) as temporary:
        (temporary / "new").write_text("lost")
        raise KeyboardInterrupt
    assert names(target) == ["old"]
    assert names(tmp_path) == ["pruned"]


def test_overwriting_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "pruned"
    target.mkdir()
    (target / "old").write_text("gone")
    with atomic_folder(target, overwrite=True) as temporary:
        (temporary / "new").write_text("kept")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["pruned"]


def test_an_existing_folder_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "pruned").mkdir()
    (tmp_path / "pruned" / "precious").write_text("kept")
    with pytest.raises(UsageError, match="not an empty folder"), atomic_folder(tmp_path / "pruned"):
        pass
    assert (tmp_path / "pruned" / "precious").read_text() == "kept"


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    lines = [
        "import os, signal, sys",
        "from pathlib import Path",
        "from obert_edge.files import atomic_file, atomic_folder",
        "here = Path(sys.argv[1])",
        "with atomic_folder(here / 'a') as folder, atomic_file(here / 'b') as file:",
        "    (folder / 'x').touch()",
        "    os.kill(os.getpid(), signal.SIGKILL)",
    ]
    code = "\n".join(lines)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".a.b.12345678.part").touch()  # another file's
    with atomic_folder(tmp_path / "a") as folder, atomic_file(tmp_path / "b") as file:
        (folder / "y").touch()
        file.write_text("b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.b.12345678.part", "a", "b"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["y"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    with atomic_file(tmp_path / "b") as slow:
        slow.write_text("slow")
        with atomic_file(tmp_path / "b") as fast:
            fast.write_text("fast")
        assert (tmp_path / "b").read_text() == "fast"
        assert slow.exists()
    assert (tmp_path / "b").read_text() == "slow"


def test_a_folder_taken_away_but_not_replaced_comes_back(tmp_path):
    (tmp_path / ".a.abcdefgh.old").mkdir()
    (tmp_path / ".a.abcdefgh.old" / "kept").touch()
    with pytest.raises(UsageError, match="not an empty folder"), atomic_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a" / "kept").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device"])
def test_only_a_regular_file_is_replaced(tmp_path, kind):
    path = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(os.devnull)
    with pytest.raises(UsageError, match="expected a file|neither file nor folder"), atomic_file(path):
        pytest.fail("the block must not run")
    assert not path.is_file()
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_and_folders_have_the_permissions_that_the_user_gives(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("new")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("name", ["m[1].oeb", "m*.oeb", "m?.oeb"])
def test_what_a_killed_process_left_is_found_whatever_the_name(tmp_path, name):
    left, others = tmp_path / f".{name}.abc.part", tmp_path / ".m1.oeb.abc.part"
    left.write_text("half")
    others.write_text("somebody else's")
    with atomic_file(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert not left.exists()
    assert others.exists()


@pytest.mark.parametrize("check", [check_file, check_folder])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/below", "is a file, not a folder"),
        ("file/far/below", "is a file, not a folder"),
        ("n" * 256, "cannot be written"),
        ("n" * 250, "cannot be written"),  # the temporary file beside it has a longer name
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(tmp_path, check, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(ObertEdgeError, match=message):
        check(tmp_path / name)
    assert names(tmp_path) == ["file"]


def test_a_folder_that_takes_no_files_is_found_out_by_trying(tmp_path):
    sealed = Path("/proc")
    if not sealed.is_dir():
        pytest.skip("this system has no /proc")
    for check in (check_file, check_folder):
        with pytest.raises(ObertEdgeError, match="cannot be written"):
            check(sealed / "output")


def test_a_file_is_not_written_over_a_folder_nor_a_folder_over_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(UsageError, match="is a folder; expected a file"), atomic_file(tmp_path / "folder"):
        raise AssertionError("the work began")
    for overwrite in (False, True):
        writing = atomic_folder(tmp_path / "file", overwrite=overwrite)
        with pytest.raises(UsageError, match="but a file"), writing:
            raise AssertionError("the work began")
    with pytest.raises(UsageError, match="neither file nor folder"):
        check_file(Path("/dev/null"))
    assert names(tmp_path) == ["file", "folder"] and (tmp_path / "file").read_text() == "old"


def test_folders_above_an_output_are_made(tmp_path):
    check_file(tmp_path / "new" / "deep" / "x.oeb")
    check_folder(tmp_path / "new" / "deep" / "x")
    assert names(tmp_path) == []
    with atomic_file(tmp_path / "new" / "deep" / "x.oeb") as path:
        path.write_text("x")
    assert (tmp_path / "new" / "deep" / "x.oeb").is_file()


def test_an_output_is_apart_from_its_input_whatever_they_are_called(tmp_path):
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for output in ("model", "link", "link/new", "model/sub/deep", "model/../model"):
        with pytest.raises(UsageError, match="the input"):
            check_apart(tmp_path / output, tmp_path / "model")
    check_apart(tmp_path / "model2", tmp_path / "model")
    check_apart(tmp_path, tmp_path / "model")
    with pytest.raises(UsageError, match="holds the input"):
        check_apart(tmp_path, tmp_path / "model", replaced=True)


def test_a_new_file_replaces_none_and_is_gone_when_the_block_fails(tmp_path):
    with new_file(tmp_path / "deep" / "x.key", 0o600) as stream:
        stream.write(b"x")
    assert (tmp_path / "deep" / "x.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists, and is not overwritten"):
        new_file(tmp_path / "deep" / "x.key", 0o600).__enter__()
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "y.key", 0o600) as stream:
        stream.write(b"y")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["deep"] and (tmp_path / "deep" / "x.key").read_bytes() == b"x"


@pytest.mark.parametrize("there", [True, False])
def test_a_file_is_written_through_a_link_which_stays(tmp_path, there):
    real, link = tmp_path / "versions" / "2.oeb", tmp_path / "model.oeb"
    real.parent.mkdir()
    if there:
        real.write_bytes(b"old")
    link.symlink_to(Path("versions") / "2.oeb")
    with atomic_file(link) as temporary:
        assert temporary.parent == real.parent
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert names(tmp_path) == ["model.oeb", "versions"]
    assert names(real.parent) == ["2.oeb"]


def test_a_folder_is_written_through_a_link_which_stays(tmp_path):
    real, link = tmp_path / "disk", tmp_path / "out"
    real.mkdir()
    link.symlink_to(real)
    with atomic_folder(link) as temporary:
        (temporary / "config.json").write_text("{}")
    assert link.is_symlink()
    assert names(real) == ["config.json"]
    assert names(tmp_path) == ["disk", "out"]


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_a_link_that_leads_to_itself_is_refused(tmp_path, check):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match="leads to itself"):
        check(tmp_path / "loop")


def test_a_folder_that_another_command_made_meanwhile_stays(tmp_path):
    with pytest.raises(UsageError, match="not an empty folder"), atomic_folder(tmp_path / "out") as ours:
        (ours / "ours").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
