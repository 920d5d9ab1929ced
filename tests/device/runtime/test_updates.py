"""Updates and forks under a server that runs all the time, some times over; by hand a thousand times."""

from __future__ import annotations

import pytest

from tests.device.runtime import updates


@pytest.mark.parametrize("name", updates.SCENARIOS)
def test_a_server_goes_on_with_the_same_bits(name):
    done = updates.run_apart(name, 5)
    assert done.returncode == 0, done.stderr
