"""Building the engine library: up to date, interrupted, without a compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from obert_edge.targets import build

SMALL = build.Plan("small", build.plans()["x86_avx"].triple, "libsmall.so", (("engine/base/status.cpp", ()),))


def test_a_second_build_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "libsmall.so"
    build.build(SMALL, output, cache=tmp_path / "cache")
    first = output.stat()
    monkeypatch.setattr(build, "_run_to", lambda *_: pytest.fail("it compiled again"))
    build.build(SMALL, output, cache=tmp_path / "cache")
    assert output.stat().st_mtime_ns == first.st_mtime_ns
    assert first.st_mode & 0o777 == 0o755


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    libraries = [build.build(SMALL, tmp_path / name, cache=tmp_path / f"{name}.cache") for name in ("a", "b")]
    assert libraries[0].read_bytes() == libraries[1].read_bytes()


def test_other_flags_are_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    build.build(SMALL, tmp_path / "a", cache=cache)
    before = {path.name for path in (cache / "small").iterdir()}
    monkeypatch.setattr(build, "COMPILE_FLAGS", (*build.COMPILE_FLAGS, "-DNDEBUG"))
    build.build(SMALL, tmp_path / "a", cache=cache)
    after = {path.name for path in (cache / "small").iterdir()}
    assert not before & after  # and the old objects are gone


def test_a_compiler_error_is_shown_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main( { return unknown_name; }")
    monkeypatch.setattr(build, "source_path", lambda _: broken)
    with pytest.raises(build.BuildError, match="the compiler failed"):
        build.build(SMALL, tmp_path / "lib.so", cache=tmp_path / "cache")
    assert not (tmp_path / "lib.so").exists()
    assert list((tmp_path / "cache" / "small").iterdir()) == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OBERT_EDGE_CXX", raising=False)
    monkeypatch.setattr(build, "_zig", lambda: None)
    with pytest.raises(build.BuildError, match="pip install ziglang"):
        build.toolchain("x86_64-linux-gnu")


def test_no_compiler_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = build.toolchain("x86_64-linux-gnu").compile[0]
    (tmp_path / "ziglang").mkdir()
    for name in ("__init__.py", "__main__.py", "zig"):
        (tmp_path / "ziglang" / name).write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    for entry in ("", str(tmp_path)):
        monkeypatch.syspath_prepend(entry)
        assert build.toolchain("x86_64-linux-gnu").compile[0] == own


def test_a_compiler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBERT_EDGE_CXX", "/nonexistent/c++ -Wall")
    with pytest.raises(build.BuildError, match="the compiler '/nonexistent/c\\+\\+' was not found"):
        build.build(SMALL, tmp_path / "lib.so", cache=tmp_path / "cache")


def test_sanitizers_need_a_system_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OBERT_EDGE_CXX", raising=False)
    with pytest.raises(build.BuildError, match="set OBERT_EDGE_CXX"):
        build.build(SMALL, tmp_path / "lib.so", cache=tmp_path / "cache", sanitize="address")


def test_it_needs_the_standard_library_only(tmp_path: Path) -> None:
    """The build backend runs it where neither numpy nor obert_edge can be imported."""
    code = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(('numpy', 'obert_edge')));"
        f"print(sorted(runpy.run_path({build.__file__!r}, run_name='build')['plans']()))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "x86_avx" in done.stdout


def test_the_command_line_refuses_an_unknown_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build.main(["--target", "vax"])
    assert caught.value.code == 2
    assert "invalid choice: 'vax'" in capsys.readouterr().err
