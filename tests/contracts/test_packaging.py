"""What pyproject.toml says about packages: nothing that an installed package needs is left out."""

from __future__ import annotations

from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def folders() -> dict[str, Path]:
    """Every folder that holds a part of the package, by the package's dotted name."""
    tops = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
    found = {}
    for name, top in tops.items():
        for init in top.rglob("__init__.py"):
            found[".".join([name, *init.parent.relative_to(top).parts])] = init.parent
    return found


def test_every_package_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders())


def test_every_python_file_is_in_a_package() -> None:
    packaged = set(folders().values())
    for folder in SETUPTOOLS["package-dir"].values():
        for path in (ROOT / folder).rglob("*.py"):
            assert path.parent in packaged, f"{path.relative_to(ROOT)} is in a folder without __init__.py"


def test_every_source_of_the_engine_is_package_data() -> None:
    """An installed package can compile the engine again, and a C program finds its header."""
    data = SETUPTOOLS["package-data"]
    packaged: set[Path] = set()
    for name, folder in folders().items():
        for pattern in data.get(name, []):
            packaged.update(folder.glob(pattern))
    for folder in SETUPTOOLS["package-dir"].values():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".h", ".cpp", ".inc"}:
                assert path in packaged, f"{path.relative_to(ROOT)} matches no pattern of package-data"
    assert any(path.name == "obert_edge.h" for path in packaged)
    assert any(path.suffix == ".so" for path in packaged)


def test_a_device_needs_four_packages() -> None:
    names = {requirement.partition(">")[0] for requirement in PROJECT["project"]["dependencies"]}
    assert names == {"numpy", "click", "rich", "tokenizers"}


def test_what_tools_test_runs_is_in_the_dev_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    names = {requirement.partition("=")[0].rstrip(">") for requirement in extras["dev"] + extras["docs"]}
    assert {
        "pytest",
        "pytest-xdist",
        "ruff",
        "clang-format",
        "mypy",
        "import-linter",
        "mkdocs-material",
    } <= names


def test_every_adapter_has_its_extra_and_is_tested_by_ci() -> None:
    """The tests of an adapter are left out where its library is missing: not where `tools/test` runs."""
    extras = PROJECT["project"]["optional-dependencies"]
    rooms = {path.stem.replace("_", "-") for path in (ROOT / "obert_edge" / "adapters").glob("[!_]*.py")}
    for name in rooms - {"opening"}:
        assert set(extras[name]) <= set(extras["dev"]), name
