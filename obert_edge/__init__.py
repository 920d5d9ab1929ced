"""obert-edge: from a Hugging Face checkpoint to a measured speed-up on a small CPU.

On a host, ``prune``, ``quantize`` and ``build`` make a bundle; they need ``obert-edge[host]``. On a device,
``load`` runs one and ``benchmark`` measures it, with Python and numpy alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, List, Optional

__version__ = "0.1.0"

if TYPE_CHECKING:
    from obert_edge.device.bench.benchmark import benchmark as benchmark
    from obert_edge.device.runtime.session import load as load
    from obert_edge.host.compiler.build import build as build
    from obert_edge.host.stages import prune as prune
    from obert_edge.host.stages import quantize as quantize

#: Public name -> its module, imported when the name is first used (PEP 562), so that a device never imports
#: what only a host has.
_PUBLIC = {
    "benchmark": "obert_edge.device.bench.benchmark",
    "build": "obert_edge.host.compiler.build",
    "load": "obert_edge.device.runtime.session",
    "prune": "obert_edge.host.stages",
    "quantize": "obert_edge.host.stages",
}

__all__ = ["__version__", "benchmark", "build", "load", "prune", "quantize"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_PUBLIC[name])
    except ModuleNotFoundError as error:
        problem = _problem(name, error.name or "")
        if problem is None:
            raise
        raise problem from error
    return getattr(module, name)


def _problem(name: str, missing: str) -> Optional[Exception]:
    """What to say where a public name cannot be had for want of a module; ``None``: what Python says."""
    from obert_edge import errors

    if missing.startswith(f"{__name__}.host"):
        return errors.UnsupportedDeviceError(
            f"{__name__}.{name} makes bundles, which is done on a host; what is here only runs them",
            hint="run `pip install 'obert-edge[host]'` on the host, and copy the bundle here",
        )
    if importlib.util.find_spec("obert_edge.packages") is None:
        return None  # this is a bundle, which has no extras
    packages = importlib.import_module("obert_edge.packages")
    package = missing.partition(".")[0]
    if package not in packages.EXTRAS:
        return None
    return errors.UsageError(
        f"{__name__}.{name} needs {package}, which is not installed", hint=packages.how_to_install(package)
    )


def __dir__() -> List[str]:
    return sorted([*globals(), *_PUBLIC])
