"""Compiles the engine library of every target: ``python targets/build.py [--target NAME]``.

The compiler is the one in PyPI's ``ziglang`` (it cross-compiles every target with no system compiler),
or the command in ``$OBERT_EDGE_CXX`` for this machine's own target. ``setup.py`` calls :func:`main`
before ``obert_edge`` can be imported, so this file uses the standard library only and reads each target's
``sources.py`` by path. Objects are kept in ``build/`` under a hash of everything they depend on, so that a
second build compiles nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.machinery
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

TARGETS = Path(__file__).resolve().parent
#: ``engine/`` lies in ``obert_edge/`` of a checkout, and beside ``targets/`` in an installed package.
ENGINE = next(
    path for path in (TARGETS.parent / "obert_edge" / "engine", TARGETS.parent / "engine") if path.is_dir()
)
LIBRARIES = ENGINE / "lib"

COMPILE_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-ffp-contract=off",  # docs/reference/numerics.md: every fused multiply-add is written out
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-Wall",
    "-Wextra",
)
LINK_FLAGS = ("-shared", "-Wl,--no-undefined", "-Wl,--as-needed")
LINK_LIBRARIES = ("-lpthread", "-lm")


class BuildError(Exception):
    """A library could not be compiled; the message says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """How one target's library is built.

    Args:
        name: the target's folder.
        triple: zig's name of the machine, with the oldest glibc supported.
        library: file name of the library.
        sources: path (:func:`source_path` says relative to what) and compiler flags of each file.
        flags: compiler flags of every file.
    """

    name: str
    triple: str
    library: str
    sources: Tuple[Tuple[str, Tuple[str, ...]], ...]
    flags: Tuple[str, ...] = ()


def plans() -> Dict[str, Plan]:
    """The build plan of every target whose ``sources.py`` names a library of its own, by folder."""
    common = runpy.run_path(str(TARGETS / "generic" / "sources.py"))["COMMON_SOURCES"]
    found = {}
    for path in sorted(TARGETS.glob("*/sources.py")):
        values = runpy.run_path(str(path))
        if "LIBRARY" in values:
            name = path.parent.name
            sources = tuple(common) + tuple(values["SOURCES"])
            flags = tuple(values.get("FLAGS", ()))
            found[name] = Plan(name, values["TRIPLE"], values["LIBRARY"], sources, flags)
    return found


def include_flags() -> Tuple[str, ...]:
    """The compiler's ``-I`` flags for every file of a library."""
    return (f"-I{ENGINE / 'include'}", f"-I{ENGINE}", f"-I{TARGETS}")


def source_path(relative: str) -> Path:
    """The file a path of ``sources.py`` means."""
    first, _, rest = relative.partition("/")
    return ENGINE / rest if first == "engine" else TARGETS / relative


@dataclass(frozen=True)
class Toolchain:
    """The commands that compile one file and link objects.

    Args:
        compile: the compiler's command.
        link: the linker's command.
        quiet: flags against false warnings; GCC 12 warns of its own intrinsics (its bug 105593).
    """

    compile: Tuple[str, ...]
    link: Tuple[str, ...]
    quiet: Tuple[str, ...] = ()


def toolchain(triple: str) -> Toolchain:
    """The compiler for ``triple``: ``$OBERT_EDGE_CXX`` where that is set, else ziglang.

    Raises:
        BuildError: ``$OBERT_EDGE_CXX`` is not set and ziglang is not installed.
    """
    system = os.environ.get("OBERT_EDGE_CXX")
    if system:
        command = tuple(shlex.split(system))
        return Toolchain(command, command, ("-Wno-uninitialized", "-Wno-maybe-uninitialized"))
    program = _zig()
    if program is None:
        raise BuildError(
            "no compiler: the package 'ziglang' is not installed and OBERT_EDGE_CXX is not set\n"
            "  fix: pip install ziglang==0.17.1, or set OBERT_EDGE_CXX to a C++17 compiler such as g++"
        )
    zig = (str(program),)
    # `zig c++` only compiles: linking with it would first build libc++ (a minute), which nothing here needs.
    target = ("-target", triple)
    return Toolchain((*zig, "c++", *target), (*zig, "cc", *target, "-s"))


def _zig() -> Optional[Path]:
    """The program of the package ``ziglang``; ``python -m`` would take one of the working directory."""
    here = Path.cwd()
    places = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("ziglang", places)
    for folder in (spec and spec.submodule_search_locations) or []:
        for name in ("zig", "zig.exe"):
            if (Path(folder) / name).is_file():
                return (Path(folder) / name).resolve()
    return None


def build(
    plan: Plan, output: Optional[Path] = None, *, cache: Optional[Path] = None, sanitize: str = ""
) -> Path:
    """Compile one target's library unless it is up to date, and return its path.

    Args:
        plan: how to build it.
        output: where the library goes; the package's ``engine/lib`` by default.
        cache: folder for objects; ``build/`` of the checkout, or a temporary one, by default.
        sanitize: comma-separated sanitizers for ``-fsanitize=``; they need a system compiler.

    Raises:
        BuildError: there is no compiler, or it refused a file; the message has the compiler's own.
    """
    output = output or LIBRARIES / plan.library
    tools = toolchain(plan.triple)
    extra: Tuple[str, ...] = ()
    if sanitize:
        if not os.environ.get("OBERT_EDGE_CXX"):
            raise BuildError(
                "--sanitize needs a system compiler\n  fix: set OBERT_EDGE_CXX, for instance to g++"
            )
        extra = (f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-g", "-O1")
    folder = (cache or _cache_folder()) / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    headers = _headers_hash(plan)

    def compile_one(source: Tuple[str, Tuple[str, ...]]) -> Path:
        path = source_path(source[0])
        includes = include_flags()
        flags = (*COMPILE_FLAGS, *tools.quiet, *plan.flags, *source[1], *extra)
        key = _hash(headers, " ".join((*tools.compile, *flags)).encode(), path.read_bytes())
        result = folder / f"{source[0].replace('/', '.')}.{key}.o"
        if not result.exists():
            _run_to(result, (*tools.compile, *flags, *includes, "-c", str(path)))
        return result

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, plan.sources))
    sanitizer = extra[:1]
    key = _hash(*(path.name.encode() for path in objects), " ".join((*tools.link, *LINK_FLAGS)).encode())
    linked = folder / f"{plan.library}.{key}"
    if not linked.exists():
        _run_to(linked, (*tools.link, *LINK_FLAGS, *sanitizer, *map(str, objects), *LINK_LIBRARIES))
    content = linked.read_bytes()
    if not output.exists() or output.read_bytes() != content:
        _replace(output, content)
        print(f"built {output}", file=sys.stderr)  # noqa: T201 - a build script's only channel
    _forget_stale(folder, {linked, *objects})
    return output


def _run_to(result: Path, command: Sequence[str]) -> None:
    """Run a compiler command, and move its output to ``result`` when it has succeeded.

    Raises:
        BuildError: the compiler failed, or was not found.
    """
    handle, name = tempfile.mkstemp(prefix=".part.", suffix=result.suffix, dir=result.parent)
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, "-o", name], capture_output=True, text=True, env=_compiler_environment(), check=False
        )
        if done.returncode:
            raise BuildError(
                f"the compiler failed ({done.returncode}): {shlex.join(command)}\n{done.stderr.strip()}"
            )
        if done.stderr.strip():
            print(done.stderr.strip(), file=sys.stderr)  # noqa: T201 - warnings
        Path(name).replace(result)
    except FileNotFoundError as error:
        raise BuildError(
            f"the compiler {command[0]!r} was not found\n  fix: correct OBERT_EDGE_CXX"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _replace(output: Path, content: bytes) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part.", dir=output.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    Path(name).chmod(0o755)
    Path(name).replace(output)


def _forget_stale(folder: Path, current: set[Path]) -> None:
    """Remove objects and libraries that other states of the sources left in the cache folder."""
    for path in folder.iterdir():
        if path not in current and not path.name.startswith(".part."):
            path.unlink(missing_ok=True)


def _headers_hash(plan: Plan) -> bytes:
    folders = {source_path(path).parent for path, _ in plan.sources} | {ENGINE}
    headers = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".h", ".inc")
    )
    return _hash(*(path.name.encode() + b"\0" + path.read_bytes() for path in headers)).encode()


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """``build/`` beside the package in a checkout; elsewhere a folder of the user's cache."""
    checkout = TARGETS.parent
    if (checkout / "pyproject.toml").exists() and os.access(checkout, os.W_OK):
        return checkout / "build" / "engine"
    return _user_cache() / "engine"


def _user_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "obert-edge"
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"obert-edge-{os.getuid()}"


def _compiler_environment() -> Dict[str, str]:
    """Environment of the compiler: zig keeps its own compiled files in a cache, which must be writable."""
    environment = dict(os.environ)
    cache = str(_user_cache() / "zig")
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", cache)
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", cache)
    return environment


def main(arguments: Sequence[str]) -> None:
    """Build the targets named on the command line, or all of them.

    Raises:
        SystemExit: a target is unknown or does not compile; the message says why.
    """
    available = plans()
    parser = argparse.ArgumentParser(description="Compile the engine library of every target.")
    parser.add_argument(
        "--target", action="append", choices=sorted(available), help="build only this one (repeatable)"
    )
    parser.add_argument("--out", type=Path, help="write the libraries and their objects to this folder")
    parser.add_argument("--sanitize", default="", help="such as address,undefined; needs OBERT_EDGE_CXX")
    options = parser.parse_args(arguments)
    names: List[str] = options.target or sorted(available)
    cache = options.out / "objects" if options.out else None
    try:
        for name in names:
            plan = available[name]
            output = options.out / plan.library if options.out else None
            build(plan, output, cache=cache, sanitize=options.sanitize)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
