import pytest
import torch
from hypothesis import settings

# A deadline is a timed assertion: it fails on a busy machine, not on wrong code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny models are slower on several threads, and the sums then depend on their number."""
    # Training sets this for its process, and hypothesis draws no floats where it is set.
    torch.set_flush_denormal(False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
