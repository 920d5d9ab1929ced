"""A task is found by its name."""

from __future__ import annotations

import sys

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.data import load_task


def test_an_unknown_task_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="no task 'sst-2'") as error:
        load_task("sst-2", tmp_path)
    assert "sst2" in error.value.hint


def test_a_hub_set_without_the_datasets_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="not installed") as error:
        load_task("sst2", "hub:")
    assert "pip install" in error.value.hint
