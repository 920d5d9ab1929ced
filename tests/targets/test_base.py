"""The registry of targets, and what a target promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List

import pytest

import obert_edge.engine
from obert_edge.bundle.program import WeightFormat
from obert_edge.errors import UsageError
from obert_edge.targets import FormatCost, Target, available_targets, base, get_target, library_path


class EntryPoint:
    """What ``importlib.metadata`` hands out for an installed third-party target."""

    def __init__(self, name: str, result: Any) -> None:
        self.name, self.value, self._result = name, "package.module:TARGET", result

    def load(self) -> Any:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> List[EntryPoint]:
    found: List[EntryPoint] = []
    monkeypatch.setattr(base, "_entry_points", lambda: {entry.name: entry for entry in found})
    return found


@pytest.mark.parametrize("name", available_targets())
def test_every_target_is_complete(name: str) -> None:
    target = get_target(name)
    assert target.name == name
    assert library_path(target).stat().st_size > 0
    assert target.implementations[-1] == "scalar"
    assert set(target.format_costs) == set(WeightFormat)
    assert all(cost.estimate(weights=1, quads=1, groups=1) > 0 for cost in target.format_costs.values())


@pytest.mark.parametrize(("name", "machine"), [("x86", "__x86_64__"), ("arm64", "__aarch64__")])
def test_the_rows_of_the_table_are_the_target_s_implementations(name: str, machine: str) -> None:
    """In the table's order, and each defined in one of the target's sources."""
    engine = Path(obert_edge.engine.__file__).parent
    table = (engine / "kernels" / "implementations.inc").read_text()
    own = re.search(rf"if defined\({machine}\)\n((?:OE_IMPLEMENTATION.*\n)+)", table)
    assert own is not None
    common = table[table.index("#endif") :]
    rows = re.findall(r'^OE_IMPLEMENTATION\((\w+), "(\w+)"', own[1] + common, re.MULTILINE)
    assert tuple(row[1] for row in rows) == get_target(name).implementations
    folder = Path(base.__file__).parent
    texts = [
        (folder / source.path).read_text()
        for source in get_target(name).sources
        if "engine/" not in source.path
    ]
    for symbol, _ in rows:
        assert any(re.search(rf"\b{symbol}\b", text) for text in texts), symbol


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="there is no target 'vax'; there are: x86, arm64") as caught:
        get_target("vax")
    assert caught.value.exit_code == 2


def test_a_third_party_target(installed: List[EntryPoint]) -> None:
    mine = Target("board", "a board", "riscv64-linux-gnu", Path("missing.so"), (), ("scalar",), {})
    installed.append(EntryPoint("board", mine))
    assert get_target("board") is mine
    assert available_targets()[-1] == "board"
    with pytest.raises(UsageError, match=r"engine library of target 'board' is not there: missing\.so"):
        library_path(mine)


def test_a_third_party_target_that_does_not_load(installed: List[EntryPoint]) -> None:
    installed.append(EntryPoint("board", ImportError("no module named board")))
    with pytest.raises(UsageError, match="'board' could not be loaded from package.module:TARGET: no module"):
        get_target("board")


def test_a_third_party_target_that_is_something_else(installed: List[EntryPoint]) -> None:
    installed.append(EntryPoint("board", {"name": "board"}))
    with pytest.raises(UsageError, match=r"is a dict, not an obert_edge.targets.Target"):
        get_target("board")


def test_our_own_names_cannot_be_taken(installed: List[EntryPoint]) -> None:
    installed.append(EntryPoint("x86", "an impostor"))
    assert isinstance(get_target("x86"), Target)


def test_cost_estimate() -> None:
    cost = FormatCost(ns_per_weight=0.5, ns_per_quad=2.0, ns_per_group=10.0)
    assert cost.estimate(weights=8, quads=3, groups=1) == 20.0


@pytest.mark.parametrize("name", ["x86", "arm64"])
def test_costs_prefer_shared_columns_and_dense_where_they_store_the_same(name: str) -> None:
    """4x1 blocks beat 2x1 and single weights of the same number; no column list beats one."""
    costs = get_target(name).format_costs
    weights = 768 * 768 // 5
    times = [
        costs[weight_format].estimate(weights=weights, quads=weights // (4 * rows), groups=768 // rows)
        for weight_format, rows in (
            (WeightFormat.DENSE_4, 4),
            (WeightFormat.ROW_GATHER_4, 4),
            (WeightFormat.ROW_GATHER_2, 2),
            (WeightFormat.ROW_GATHER_1, 1),
        )
    ]
    assert times == sorted(times)
