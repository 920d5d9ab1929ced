"""The op schema, and the files that are generated from it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from obert_edge.bundle import ops, schema
from obert_edge.bundle.manifest import FORMAT_VERSION
from obert_edge.bundle.packing import count_units, supports
from obert_edge.bundle.program import Embed, Linear, Program
from tools.dev import generate_ops

LISTS = ("inputs", "outputs", "consts", "ints", "floats")


def test_the_generated_files_are_what_the_schema_says() -> None:
    stale = [str(path.relative_to(generate_ops.ROOT)) for path in generate_ops.stale()]
    assert not stale, "run tools/dev/generate_ops.py"


@pytest.mark.parametrize("op", schema.OPS, ids=lambda op: op.name)
def test_an_op_fits_a_record(op: schema.OpRow) -> None:
    for name in LISTS:
        assert len(getattr(op, name)) <= schema.RECORD[name]
    names = [field.name for field in op.fields]
    assert len(set(names)) == len(names)
    enums = {enum.name for enum in schema.ENUMS}
    assert all(field.enum in enums for field in op.fields if field.enum)
    assert not any(field.optional for field in op.ints + op.floats)  # 0 is a value of its own


def test_nothing_needs_a_reader_newer_than_this_one() -> None:
    """A bundle that this version writes must be one that it reads."""
    newest = max(entry.reader for op in schema.OPS for entry in (op, *op.fields))
    assert newest <= FORMAT_VERSION


def test_kinds_and_members_are_numbered_without_holes() -> None:
    """The engine looks them up in arrays."""
    assert [op.kind for op in schema.OPS] == list(range(1, len(schema.OPS) + 1))
    for enum in schema.ENUMS:
        first = enum.members[0].number
        assert [member.number for member in enum.members] == list(range(first, first + len(enum.members)))
        assert all(len(member.facts) == len(enum.facts) for member in enum.members)


@pytest.mark.parametrize("op", schema.OPS, ids=lambda op: op.name)
def test_the_dataclass_has_the_fields_of_the_row(op: schema.OpRow) -> None:
    op_type = ops.OP_TYPES[op.kind]
    assert op_type.__name__ == op.name
    fields = {field.name for field in dataclasses.fields(op_type)} - {"name"}
    assert fields == {field.name for field in op.fields}
    for name in LISTS:
        assert getattr(op_type, name.upper()) == tuple(field.name for field in getattr(op, name))


def test_a_newer_field_needs_a_newer_reader_only_where_it_is_used() -> None:
    def zeros(op_type: type[ops.Op]) -> ops.Op:
        names = [field.name for field in dataclasses.fields(op_type)]
        return op_type(**{**dict.fromkeys(names, 0), "name": "op"})

    embed, linear = zeros(Embed), zeros(Linear)
    assert Program(ops=[embed, linear]).minimum_reader == 1
    assert Program(ops=[dataclasses.replace(embed, word_format=1)]).minimum_reader == 2
    assert Program(ops=[embed, dataclasses.replace(linear, column_coding=1)]).minimum_reader == 2
    assert Program(ops=[dataclasses.replace(linear, activation=ops.Activation.SILU)]).minimum_reader == 3
    assert Program().minimum_reader == 1


@pytest.mark.parametrize("weight_format", ops.WeightFormat, ids=lambda weight_format: weight_format.name)
def test_facts_of_a_format_say_what_is_stored(weight_format: ops.WeightFormat) -> None:
    n, k = 8, 16
    full = count_units(np.ones((n, k), np.int8), weight_format)
    assert full.groups == n // weight_format.rows
    assert full.weights == n * k
    empty = count_units(np.zeros((n, k), np.int8), weight_format)
    assert (empty.units == 0) == weight_format.is_sparse
    assert supports(weight_format, 17) == (weight_format.is_sparse and weight_format.block == 1)


def test_the_engine_names_no_place_of_a_record_by_hand() -> None:
    """`ops.ints[3]` would be a twin of the schema that nothing keeps up to date."""
    engine = Path(generate_ops.ROOT) / "obert_edge" / "engine"
    by_hand = re.compile(r"\.(consts|ints|floats)\[\d+\]")
    for path in [*engine.rglob("*.cpp"), *engine.rglob("*.h")]:
        assert not by_hand.search(path.read_text()), path


def test_a_stale_file_is_named_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for path, text in generate_ops.generated().items():
        copy = tmp_path / path.relative_to(generate_ops.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    monkeypatch.setattr(generate_ops, "ROOT", tmp_path)
    assert generate_ops.main(["--check"]) == 0
    (tmp_path / "obert_edge" / "bundle" / "ops.py").write_text("")
    assert generate_ops.main(["--check"]) == 1
    assert "stale obert_edge/bundle/ops.py" in capsys.readouterr().err
    assert generate_ops.main([]) == 0
    assert generate_ops.main(["--check"]) == 0
