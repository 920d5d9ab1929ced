import pytest
import torch
from hypothesis import settings

# A deadline is a timed assertion: it fails on a busy machine, not on wrong code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _denormals():
    """Training flushes them for its process, and hypothesis draws no floats where they are flushed."""
    torch.set_flush_denormal(False)
