"""The examples run as they are, from whatever folder, and give the right answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Callable

import pytest

from tests.hostile import Hostile

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints, run with no model hub to ask."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


Example = Callable[..., str]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A function: the name and arguments of an example to what it prints, run in a folder full of traps."""
    hostile = Hostile(tmp_path_factory.mktemp("place"))

    def start(name: str, *arguments: str | Path) -> str:
        printed = run(sys.executable, EXAMPLES / name, *arguments, cwd=hostile.folder)
        assert hostile.run == []
        return printed

    return start


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, example: Example) -> Path:
    """The bundle of the classifying example, kept."""
    bundle = tmp_path_factory.mktemp("examples") / "classify.oeb"
    example("small_models.py", "classify", bundle)
    return bundle


def test_classify(example: Example) -> None:
    labels = [line.split()[0] for line in example("classify.py").splitlines()]
    assert labels == ["loans", "rooms", "computers", "loans", "computers"]


def test_classify_a_bundle(example: Example, classifier: Path) -> None:
    letters = ["I lost the book", "The printer is black"]
    printed = example("classify.py", classifier, *letters)
    assert [line.split()[0] for line in printed.splitlines()] == ["loans", "computers"]


@pytest.mark.parametrize("name", ["ask.py", "tag.py", "search.py"])
def test_an_example_refuses_a_bundle_of_another_task_in_one_line(name: str, classifier: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, classifier], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    line = rf"{re.escape(str(classifier))} is for sequence-classification; this needs [a-z-]+\n"
    assert re.fullmatch(line, done.stderr)


def test_search(example: Example) -> None:
    lines = example("search.py").splitlines()
    found = [re.sub(r"^  0\.\d\d  ", "", line) for line in lines[1::2]]
    beginnings = ["Books may be", "Forgotten passwords", "An overdue book", "The hall seats", "The bus stops"]
    assert len(found) == len(beginnings)
    for paragraph, beginning in zip(found, beginnings):
        assert paragraph.startswith(beginning)


def test_ask(example: Example) -> None:
    lines = example("ask.py").splitlines()
    answers = [re.fullmatch(r".*\?  +(.*)  \[\d+:\d+, \d+%\]", line) for line in lines]
    assert [answer and answer[1] for answer in answers] == [
        "Greta Novak",
        "twelve",
        "top",
        "three weeks",
        "Sunday",
    ]


def test_tag(example: Example) -> None:
    assert example("tag.py").splitlines() == [
        "[Greta Weber | person] of [Kestrel Works | company] flew from [Oslo | city] to [New Delhi | city].",
        "[Hugo Amini | person] joined [Volt | company] in [Ghent | city].",
        "[Blue Harbor | company] and [Sienna Bank | company] have offices in [Lisbon | city], "
        "says [Ines Lind | person].",
        "The mayor of [Cape Town | city] met [Anna Novak | person].",
    ]


def test_bench(example: Example) -> None:
    printed = example("bench.py")
    times = {name: float(time) for name, time in re.findall(r"^(\S+) +█+ ([\d.]+)$", printed, re.M)}
    assert list(times) == ["obert-edge", "onnxruntime-fp32", "onnxruntime-int8"]
    assert all(time > 0 for time in times.values())
    assert len(re.findall(r"times as fast as onnxruntime-(?:fp32|int8)$", printed, re.M)) == 2


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C example, compiled by the command in its first comment."""
    program = tmp_path_factory.mktemp("c") / "run"
    source = (EXAMPLES / "c" / "run.c").read_text("utf-8")
    *lines, _ = re.findall(r"^ \*   (\S.*)$", source, re.M)
    script = "\n".join(lines)
    # A machine need not have `cc`; the compiler that built the engine is always there.
    for documented, here in {
        "python3": sys.executable,
        "cc ": f"{sys.executable} -m ziglang cc -Wall -Wextra -Werror ",
        "-o examples/c/run": f"-o {program}",
    }.items():
        assert script.count(documented) == 1
        script = script.replace(documented, here)
    run("sh", "-ec", script)
    return program


def test_c(c_program: Path, classifier: Path) -> None:
    lines = run(c_program, classifier).splitlines()
    assert re.fullmatch(rf"{re.escape(str(classifier))}: kernels \w+", lines[0])
    assert len(lines) == 5  # the four cases of a bundle, one output each
    assert all(": the same " in line for line in lines[1:])


def test_c_sees_one_other_bit(tmp_path: Path, c_program: Path, classifier: Path) -> None:
    content = bytearray(classifier.read_bytes())
    cases = zipfile.ZipFile(classifier).read("cases.bin")
    content[content.index(cases) + len(cases) - 4] ^= 1  # the last bit of the last stored result
    altered = tmp_path / "altered.oeb"
    altered.write_bytes(content)
    done = subprocess.run([c_program, altered], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "error: the results: they differ from the bundle's\n"


def test_c_refuses_what_is_no_bundle(tmp_path: Path, c_program: Path) -> None:
    (tmp_path / "text.oeb").write_text("no ZIP file, but longer than its end record")
    done = subprocess.run([c_program, tmp_path / "text.oeb"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path / 'text.oeb'}: is not a bundle\n")


def test_every_example_is_listed() -> None:
    listed = re.findall(r"^\| \[`(.*?)`\]", (EXAMPLES / "README.md").read_text("utf-8"), re.M)
    programs = {path.name for path in EXAMPLES.glob("*.py")} - {"small_models.py", "texts.py"}
    assert set(listed) == programs | {"c/run.c"}


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        if path.name not in ("small_models.py", "texts.py"):
            assert len(path.read_text("utf-8").splitlines()) <= 60, path.name
