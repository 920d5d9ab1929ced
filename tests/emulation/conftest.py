"""Emulated devices and the bundles for them, made once."""

from __future__ import annotations

import pytest

from tests.emulation.bundles import make_bundle
from tests.host.remote.conftest import device
from tools.emulation.debian import UnavailableError
from tools.emulation.emulated import Emulated, Machine, engine_wheels

__all__ = ["bundle_for", "device", "emulate"]


@pytest.fixture(scope="session")
def emulate(tmp_path_factory):
    """A function: a :class:`Machine` to an :class:`Emulated`; skips where there is none."""
    ready: dict[str, Emulated] = {}

    def start(machine: Machine) -> Emulated:
        if machine.name not in ready:
            try:
                ready[machine.name] = Emulated(machine, tmp_path_factory.mktemp(machine.name))
            except UnavailableError as reason:
                pytest.skip(f"no emulated {machine.cpu}: {reason}")
        return ready[machine.name]

    return start


@pytest.fixture(scope="session")
def bundle_for(tmp_path_factory):
    """A function: a target's name to a small bundle built for it on this machine."""
    built = {}

    def build(target: str):
        if target not in built:
            built[target] = make_bundle(tmp_path_factory.mktemp("model"), target)
        return built[target]

    return build


@pytest.fixture(scope="session")
def wheels():
    """PyPI's aarch64 wheels of the versions this machine has."""
    for name in ("onnxruntime", "ai_edge_litert"):
        pytest.importorskip(name)
    try:
        return engine_wheels()
    except UnavailableError as reason:
        pytest.skip(f"no aarch64 wheels: {reason}")
