"""A device at the end of an SSH connection, and a small real bundle."""

from __future__ import annotations

import pytest

from obert_edge.host.remote.ssh import OPTIONS_VARIABLE
from tests.emulation.bundles import make_bundle
from tests.host.remote.loopback import Loopback
from tools.emulation.debian import UnavailableError


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("model"), "x86").rename(
        tmp_path_factory.mktemp("here") / "model.oeb"
    )


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A :class:`Loopback`; ``ssh://device`` means it, and ``ssh://gone`` nothing."""
    try:
        loopback = Loopback(tmp_path)
    except UnavailableError as reason:
        pytest.skip(f"no sshd: {reason}")
    monkeypatch.setenv(OPTIONS_VARIABLE, loopback.options)
    yield loopback
    loopback.close()
