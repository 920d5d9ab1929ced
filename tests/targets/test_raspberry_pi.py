"""The table of boards, and what is expected of them."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.bundle.program import WeightFormat
from obert_edge.cli import run_command
from obert_edge.device.roofline.work import multiply_adds_by_kernel
from obert_edge.targets import get_target
from obert_edge.targets.raspberry_pi.boards import BOARDS, Rates, least_milliseconds, outlook
from tests.emulation.bundles import ROOT, make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("model"), "rpi")


@pytest.fixture(scope="module")
def manifest(bundle):
    with Bundle.open(bundle) as opened:
        return opened.manifest


def test_the_boards_run_kernels_the_target_has():
    assert [board.name for board in BOARDS] == ["Zero 2 W", "3 B+", "4 B", "5"]
    for board in BOARDS:
        assert board.implementation in get_target("rpi").implementations
        assert ("dotprod" in board.isa) == (board.implementation == "neondot")
        assert board.l1_data < board.cache <= board.l2 <= board.last_level < min(board.memory)


def test_a_bundle_says_what_suits_each_board(manifest):
    assert {board.model: (board.threads, board.cache >> 10) for board in manifest.boards} == {
        "Raspberry Pi Zero 2 W": (4, 128),
        "Raspberry Pi 3": (4, 128),
        "Raspberry Pi 4": (4, 256),
        "Raspberry Pi 5": (4, 512),
    }
    assert get_target("arm64").boards == ()


def test_a_bundle_for_the_pi_has_the_engine_of_every_64_bit_arm():
    assert get_target("rpi").library == get_target("arm64").library


def test_the_rates_are_those_of_the_results_page():
    page = (ROOT / "docs" / "results" / "arm_throughput.md").read_text()
    loops = {
        "row-gather, R = 4": "row_gather_4",
        "row-gather, R = 2": "row_gather_2",
        "attention": "attention",
    }
    loops.update({"row-gather, R = 1": "row_gather_1", "Dense4": "dense_4", "1x4 blocks": "block_1x4"})
    for board in BOARDS:
        section = next(part for part in page.split("\n## ") if board.core in part.splitlines()[0])
        for loop, name in loops.items():
            row = next(line for line in section.splitlines() if line.startswith(f"| {loop} |"))
            assert board.rates.of(name) == float(row.split("|")[5]), (board.name, loop)


def test_every_format_has_a_rate():
    assert all(board.rates.of(weight_format.name) > 0 for board in BOARDS for weight_format in WeightFormat)


def test_pruned_weights_cost_nothing_and_attention_grows_with_the_square(manifest):
    per_token = sum(layer.n * layer.k * (1 - layer.sparsity) for layer in manifest.linears if layer.per_token)
    once = sum(layer.n * layer.k * (1 - layer.sparsity) for layer in manifest.linears if not layer.per_token)
    work = multiply_adds_by_kernel(manifest, 10)
    assert work.pop("attention") == 2 * 2 * 32 * 10**2  # two products, two layers, 32 channels
    assert sum(work.values()) == pytest.approx(10 * per_token + once)
    assert set(work) == {layer.format for layer in manifest.linears}


def test_the_least_time_is_of_the_slower_of_cores_and_memory(manifest):
    board = BOARDS[0]
    slow = dataclasses.replace(board, rates=Rates(*[2.0] * 6))
    computing = sum(multiply_adds_by_kernel(manifest, 40).values()) / (4 * 2.0 * 1e9) * 1e3
    assert least_milliseconds(slow, manifest, 40) == pytest.approx(computing)
    weights = sum(linear.bytes for linear in manifest.linears)
    tiny = dataclasses.replace(board, last_level=weights - 1, bandwidth=1e3)
    assert least_milliseconds(tiny, manifest, 40) == pytest.approx(weights)


def test_every_board_is_at_least_as_fast_as_the_one_before(manifest):
    times = [least_milliseconds(board, manifest, 40) for board in BOARDS]
    assert times == sorted(times, reverse=True)


def test_the_outlook_says_that_nothing_was_measured(manifest):
    text = outlook(manifest)
    assert "not measured" in text
    assert "1 x 38 tokens" in text  # the model takes no more
    assert all(f"Raspberry Pi {board.name} " in text for board in BOARDS)


def test_the_time_of_a_tiny_model_has_digits(manifest):
    times = re.findall(r"from ([\d.]+) ms", outlook(manifest))
    assert len(times) == len(BOARDS)
    for time, board in zip(map(float, times), BOARDS):
        assert time == pytest.approx(least_milliseconds(board, manifest, 38), rel=0.06)


def test_build_prints_it(bundle, tmp_path, capsys):
    output = tmp_path / "model.oeb"
    assert run_command(["build", str(bundle.parent), "--target", "rpi", "-o", str(output), "--json"]) == 0
    printed = capsys.readouterr()
    assert "Raspberry Pi 5 (4 x Cortex-A76" in printed.err
    assert output.read_bytes() == bundle.read_bytes()


def test_inspect_prints_it(bundle, capsys):
    assert run_command(["inspect", str(bundle), "--json"]) == 0
    printed = capsys.readouterr()
    assert "Raspberry Pi 4 B (4 x Cortex-A72" in printed.err
    assert "Raspberry Pi 4 B" in json.loads(printed.out)["outlook"]
