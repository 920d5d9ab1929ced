"""Every architecture of the SDK has a base size to measure, and the committed page is what its file gives."""

from __future__ import annotations

import json

from obert_edge.host.architectures import ARCHITECTURES
from tests.tools.results import RESULTS
from tools.bench.architecture_speeds import page
from tools.bench.models import BASE_SHAPES, CLASS_PREFIXES


def test_every_architecture_has_a_base_size():
    assert set(BASE_SHAPES) == set(CLASS_PREFIXES)
    assert set(BASE_SHAPES) == set(ARCHITECTURES)


def test_the_committed_page_is_what_the_json_file_gives():
    document = json.loads((RESULTS / "architecture_speeds.json").read_text(encoding="utf-8"))
    assert (RESULTS / "architecture_speeds.md").read_text(encoding="utf-8") == page(document)
    assert {"bert", "mpnet", "modernbert"} <= {row.split()[0] for row in document["rows"]} <= set(BASE_SHAPES)
