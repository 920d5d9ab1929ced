"""Nothing the documentation names is missing: links, paths in code font, programs, public names."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from tests.docs.markdown import PAGES, ROOT, anchors, blocks, code, links, name

#: What a path of this repository starts with.
_PLACES = r"(?:obert_edge|targets|calibration|tests|tools|docs|examples)"
_PATH = re.compile(rf"(?<![\w./-]){_PLACES}/[\w./<>{{}},*-]*[\w>}}*/]")
_MODULE = re.compile(r"python3? -m (tools(?:\.\w+)+)")
#: Paths that are made, and not kept.
_MADE = ("tools/quickstart-out",)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    broken = []
    for number, target in links(page):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(f"line {number}: {target}")
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_in_code_font_exist(page):
    missing = []
    for number, text in code(page):
        for path in _PATH.findall(text):
            known = re.split(r"[<{*]", path)[0]  # a pattern or a placeholder: what stands before it
            place = ROOT / (known if known == path else known.rpartition("/")[0])
            if path not in _MADE and not place.exists():
                missing.append(f"line {number}: {path}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_programs_exist(page):
    missing = []
    for number, text in code(page):
        for module in _MODULE.findall(text):
            if not (ROOT / (module.replace(".", "/") + ".py")).is_file():
                missing.append(f"line {number}: python -m {module}")
    assert not missing


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "python"))], ids=name)
def test_python_compiles_and_what_it_imports_is_there(page):
    for number, text in blocks(page, "python"):
        tree = ast.parse(text, f"{name(page)}, line {number}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("obert_edge"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def test_pages_named_in_the_source_exist():
    missing = []
    for folder in ("obert_edge", "targets", "calibration", "tests", "tools", "examples"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".h", ".cpp", ".inc", ".yaml") and "docs" not in file.parent.parts[-1:]:
                for page in re.findall(r"docs/[\w./-]+\.md\b", file.read_text(encoding="utf-8")):
                    if not (ROOT / page).is_file():
                        missing.append(f"{file.relative_to(ROOT)}: {page}")
    assert not missing


def test_the_page_of_the_c_api_names_every_function():
    header = (ROOT / "obert_edge" / "engine" / "include" / "obert_edge.h").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "reference" / "c-api.md").read_text(encoding="utf-8")
    functions = set(re.findall(r"^OE_API [^(]*?(oe_\w+)\(", header, re.MULTILINE))
    assert functions
    assert {function for function in functions if f"`{function}`" not in page} == set()
