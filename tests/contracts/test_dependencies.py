"""What the device side needs: numpy always, other packages only where a function asks for them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import obert_edge

PACKAGE = Path(obert_edge.__path__[0])
#: Packages that a device may have; what asks for one runs only where it is used.
LAZY = {
    "bundle": set(),
    "device/bench": {"ai_edge_litert", "onnxruntime", "openvino"},
    "device/commands": set(),
    "device/export": {"ai_edge_litert", "flatbuffers", "onnx", "openvino"},
    "device/pipelines": set(),
    "device/roofline": set(),
    "device/runtime": set(),
    "device/text_table.py": {"rich"},
    "device/tokenizers": {"tokenizers"},
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Third-party packages a file imports, and whether each is imported as soon as the file is."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            package = name.split(".")[0]
            if package != "obert_edge" and package not in sys.stdlib_module_names:
                yield package, at_once
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        inside = at_once and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(path.read_text("utf-8")), True)


def sources(*rooms: str) -> list[Path]:
    found = [path for room in rooms for path in (PACKAGE / room).rglob("*.py")]
    assert found
    return sorted(found)


def test_only_numpy_is_imported_at_once() -> None:
    at_once = {
        package for path in sources("device", "bundle") for package, is_at_once in imports(path) if is_at_once
    }
    assert at_once == {"numpy"}


def test_lazy_imports_are_the_declared_ones() -> None:
    found: dict[str, set[str]] = {}
    for path in sources("device", "bundle"):
        relative = path.relative_to(PACKAGE)
        room = "/".join(relative.parts[: 1 if relative.parts[0] == "bundle" else 2])
        lazy = {package for package, at_once in imports(path) if not at_once and package != "numpy"}
        found.setdefault(room, set()).update(lazy)
    # A file of its own, beside the rooms, is listed only where it has a lazy import.
    found = {room: lazy for room, lazy in found.items() if lazy or not room.endswith(".py")}
    assert found == LAZY


def loaded(code: str) -> set[str]:
    """The third-party packages that a fresh Python has imported after `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # What a start-up file of the environment imports (an editable install's finder) is no doing of ours.
    idle = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(done.stdout)) - set(json.loads(idle.stdout))
    packages = {name.split(".")[0] for name in modules}
    return {name for name in packages - sys.stdlib_module_names if not name.startswith("_")}


def test_importing_the_package_imports_nothing_else() -> None:
    assert loaded("import obert_edge") == {"obert_edge"}


def test_loading_and_running_a_bundle_imports_numpy_alone() -> None:
    bundle = next(iter(sorted((Path(__file__).parents[1] / "golden").glob("*.oeb"))))
    code = f"import obert_edge\nobert_edge.load({str(bundle)!r}).run(input_ids=[[1, 2, 3]])"
    assert loaded(code) == {"numpy", "obert_edge"}


def test_asking_for_the_benchmark_imports_numpy_alone() -> None:
    assert loaded("import obert_edge\nobert_edge.benchmark") == {"numpy", "obert_edge"}


def test_the_command_line_is_there_without_torch() -> None:
    heavy = {"torch", "transformers", "safetensors", "scipy", "datasets", "accelerate", "onnxruntime"}
    heavy |= {"starlette", "uvicorn", "orjson", "prometheus_client"}
    assert not loaded("import obert_edge.cli") & heavy
