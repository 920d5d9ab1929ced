"""The fit finds what the times were made of, and every format of an implementation is measured."""

from __future__ import annotations

import numpy as np
import pytest

from obert_edge.bundle.packing import count_units, pack_linear
from obert_edge.bundle.program import Activation, DType, WeightFormat
from obert_edge.device.runtime.native import Library
from obert_edge.targets import get_target, library_path
from tools.bench import format_costs, kernels
from tools.bench.format_costs import Timing, fit

STORED = ((100, 10), (400, 10), (50, 40), (900, 300))


def test_costs_that_explain_every_time_are_found():
    cost, worst = fit([Timing(quads, groups, 3.5 * quads + 20 * groups) for quads, groups in STORED])
    assert (cost.ns_per_weight, cost.ns_per_quad) == (0, pytest.approx(3.5))
    assert cost.ns_per_group == pytest.approx(20)
    assert worst == pytest.approx(0, abs=1e-9)


def test_the_error_is_relative_and_the_largest():
    times = [Timing(quads, groups, 2.0 * quads) for quads, groups in STORED]
    times[1] = times[1]._replace(nanoseconds=1.25 * times[1].nanoseconds)
    cost, worst = fit(times)
    predicted = [cost.ns_per_quad * t.quads + cost.ns_per_group * t.groups for t in times]
    errors = [abs(p / t.nanoseconds - 1) for p, t in zip(predicted, times)]
    assert worst == pytest.approx(max(errors))
    assert 0.05 < worst < 0.25


def test_no_cost_is_negative():
    cost, _ = fit([Timing(quads, groups, 5.0 * quads - groups) for quads, groups in STORED])
    assert cost.ns_per_group == 0
    assert cost.ns_per_quad > 0


def test_a_linear_is_there_several_times_and_gives_the_same():
    case = kernels.linear_case(16, 32, WeightFormat.ROW_GATHER_4, 0.5, 16, DType.U8, Activation.NONE)
    program, weights = format_costs.repeated(case, 3)
    library = Library(library_path(get_target("x86")))
    with library.open(program.to_bytes(), weights, threads=1) as model:
        buffers, batch = kernels.buffers_of(case, 16), kernels.batch_of(16)
        results = []
        for index in range(3):
            buffers[1][:] = 0
            model.run_op(index, batch, buffers)
            results.append(np.copy(buffers[1]))
    assert results[0].any()
    assert all(np.array_equal(results[0], other) for other in results)


def test_every_format_is_measured_with_what_it_stores():
    library = Library(library_path(get_target("x86")))
    found = format_costs.measure(library, "scalar", rounds=1, shapes=((16, 32),), sparsities=(0.5, 0.75))
    assert set(found) == set(WeightFormat)
    assert {weight_format: len(timings) for weight_format, timings in found.items()} == {
        weight_format: 1 if weight_format is WeightFormat.DENSE_4 else 2 for weight_format in WeightFormat
    }
    assert all(timing.nanoseconds > 0 for timings in found.values() for timing in timings)
    stored = count_units(np.ones((16, 32), np.int8), WeightFormat.DENSE_4)
    assert found[WeightFormat.DENSE_4][0][:2] == (stored.units, stored.groups)
    packed = pack_linear(np.eye(16, 32, dtype=np.int8), WeightFormat.ROW_GATHER_1)
    assert packed["offsets"][-1] == 16  # what the timing takes for quads


def test_what_is_printed_goes_into_a_target(monkeypatch, capsys):
    monkeypatch.setattr(format_costs, "measure", _tiny(format_costs.measure))
    format_costs.main(["--implementation", "scalar", "--rounds", "1"])
    printed = capsys.readouterr().out
    names: dict = {}
    code = printed.replace("format_costs={", "format_costs = {").replace("\n},", "\n}")
    exec(
        "from obert_edge.bundle.program import WeightFormat\nfrom obert_edge.targets.base import FormatCost\n"
        + code,
        names,
    )
    assert set(names["format_costs"]) == set(WeightFormat)


def test_kernels_that_do_not_run_here_are_named(capsys):
    with pytest.raises(SystemExit):
        format_costs.main(["--implementation", "abacus"])
    assert "abacus does not run here; there are" in capsys.readouterr().err


def _tiny(measure):
    return lambda *arguments, **named: measure(*arguments, shapes=((16, 32),), sparsities=(0.5,), **named)
