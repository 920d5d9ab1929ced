"""Programs that ``tests/fuzz`` found to load, and to differ on another CPU or to take gigabytes."""

from __future__ import annotations

import dataclasses

import pytest

from obert_edge.bundle.program import Linear, Program, WeightFormat
from obert_edge.device.runtime.native import Library
from obert_edge.errors import BundleError
from tests.engine import models
from tests.engine.damage import fresh, index_of, set_const
from tests.engine.models import EncoderBuilder


def test_a_block_starts_at_a_multiple_of_four(library: Library) -> None:
    """Some kernels read whole fours, others from the number listed: their results differed."""
    program, weights = fresh()
    blocks = next(op for op in program.ops if isinstance(op, Linear) and op.format == WeightFormat.BLOCK_1X4)
    set_const(blocks.name, "columns", 3, 1, "<u2")(program, weights)
    with pytest.raises(BundleError, match=r"columns\[3\] is input channel 1; a block of four starts at"):
        library.open(program.to_bytes(), weights)


@pytest.mark.parametrize(
    "kind", [WeightFormat.ROW_GATHER_1, WeightFormat.ROW_GATHER_4, WeightFormat.BLOCK_1X4]
)
def test_ops_that_share_weights_take_no_more_memory_than_a_file_needs(
    library: Library, kind: WeightFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine cannot tell that they are the same, each has its own prepacked.

    The same linear several times, as layers that share weights have it, takes what one takes.
    """
    monkeypatch.setattr(models, "HIDDEN", 192)
    monkeypatch.setattr(models, "INTERMEDIATE", 768)
    builder = EncoderBuilder(layers=1, compact=True)
    program = Program.from_bytes(builder.program.to_bytes())
    shared = next(op for op in program.ops if isinstance(op, Linear) and op.format == kind)
    at = index_of(program, shared.name)
    copies = [dataclasses.replace(shared, name=f"copy.{i}") for i in range(100)]
    program.ops[at:at] = copies
    for implementation in library.implementations():
        with library.open(program.to_bytes(), builder.weights, implementation=implementation):
            pass
    first = len(program.consts)
    program.consts += [program.consts[shared.weights]] * 3000
    program.ops[at : at + 100] = [
        dataclasses.replace(shared, name=f"copy.{i}", weights=first + i) for i in range(3000)
    ]
    for implementation in library.implementations():
        with pytest.raises(BundleError, match="bytes as the kernels read them; weights of"):
            library.open(program.to_bytes(), builder.weights, implementation=implementation)


def test_what_a_file_honestly_holds_is_prepacked(library: Library) -> None:
    for compact in (False, True):
        builder = EncoderBuilder(layers=12, compact=compact)
        for implementation in library.implementations():
            library.open(builder.program.to_bytes(), builder.weights, implementation=implementation).close()
