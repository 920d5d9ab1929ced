"""Write the Python and the C++ twin of the op schema.

    python -m tools.dev.generate_ops            # writes the files that are stale
    python -m tools.dev.generate_ops --check    # writes nothing, and exits with 1 if a file is stale

The table is `obert_edge/bundle/schema.py`.

Needs: obert-edge alone.
Takes: a second.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from obert_edge.bundle import schema
from tools import command_line

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 110
LISTS = ("inputs", "outputs", "consts", "ints", "floats")

_PYTHON_HEAD = '''"""The ops of a compiled graph and their enums.

Generated from ``bundle/schema.py`` by ``tools/dev/generate_ops.py``, with its C++ twin: edit the schema.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Dict, Mapping, Tuple, Type
'''

_OP_BASE = '''

@dataclass(frozen=True)
class Op:
    """Base of all ops; the class variables say which field stands at which place of a record.

    ``OPTIONAL`` names the buffers and constants that may be ABSENT.
    ``READER`` is the version of the bundle format whose readers know the op, and ``FIELD_READERS`` those that
    understand a value of a field other than its default.
    """

    name: str

    KIND: ClassVar[int] = 0
    INPUTS: ClassVar[Tuple[str, ...]] = ()
    OUTPUTS: ClassVar[Tuple[str, ...]] = ()
    CONSTS: ClassVar[Tuple[str, ...]] = ()
    INTS: ClassVar[Tuple[str, ...]] = ()
    FLOATS: ClassVar[Tuple[str, ...]] = ()
    OPTIONAL: ClassVar[Tuple[str, ...]] = ()
    READER: ClassVar[int] = 1
    FIELD_READERS: ClassVar[Mapping[str, int]] = {}
'''


def python_source() -> str:
    """``obert_edge/bundle/ops.py``, formatted as ruff does."""
    parts = [_PYTHON_HEAD]
    for constant in schema.CONSTANTS:
        value = f"0x{constant.value:X}" if constant.value > 1 << 20 else str(constant.value)
        parts.append(f"\n#: {constant.doc}\n{constant.name} = {value}")
    parts.append("\n")
    parts += [_python_enum(enum) for enum in schema.ENUMS]
    parts.append(_OP_BASE)
    parts += [_python_op(op) for op in schema.OPS]
    names = "".join(f"        {op.name},\n" for op in schema.OPS)
    parts.append("\n\n#: Number of a kind of op -> its class.\n")
    parts.append(f"OP_TYPES: Dict[int, Type[Op]] = {{\n    op.KIND: op\n    for op in (\n{names}    )\n}}\n")
    return "".join(parts)


def _python_enum(enum: schema.Enum) -> str:
    lines = ["", "", f"class {enum.name}(enum.IntEnum):", f'    """{enum.doc}"""', ""]
    lines += [f"    {member.name} = {member.number}  # {member.doc}" for member in enum.members]
    for fact in enum.facts:
        table = _fact_table(enum, fact)
        lines += [
            "",
            "    @property",
            f"    def {fact.name}(self) -> {fact.type}:",
            f'        """{fact.doc}"""',
            f"        return {table}[self]",
        ]
    tables = [
        f"{_fact_table(enum, fact)} = {{\n"
        + "".join(f"    {enum.name}.{m.name}: {m.facts[at]},\n" for m in enum.members)
        + "}"
        for at, fact in enumerate(enum.facts)
    ]
    text = "\n".join(lines) + "\n"
    return text + ("\n\n" + "\n".join(tables) + "\n" if tables else "")


def _fact_table(enum: schema.Enum, fact: schema.Fact) -> str:
    return f"_{_snake(enum.name).upper()}_{fact.name.upper()}"


def _python_op(op: schema.OpRow) -> str:
    lines = ["", "", "@dataclass(frozen=True)", f"class {op.name}(Op):"]
    summary, *more = op.doc.split("\n\n")
    lines.append(f'    """{summary}')
    for paragraph in more:
        lines += ["", *textwrap.wrap(paragraph, WIDTH, initial_indent="    ", subsequent_indent="    ")]
    lines += ["", "    Args:", "        name: of the op in messages and profiles."]
    for field in _constructor_order(op):
        text = f"{field.name}: {field.doc}{'; or ABSENT' if field.optional else ''}."
        lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12)
    lines += ['    """', ""]
    for field in _constructor_order(op):
        kind = "float" if field in op.floats else "int"
        lines.append(f"    {field.name}: {kind}" + (f" = {field.default}" if field.default else ""))
    lines += ["", f"    KIND = {op.kind}"]
    for name in LISTS:
        fields: Tuple[schema.Field, ...] = getattr(op, name)
        if fields:
            lines += _tuple(f"    {name.upper()} = ", [f'"{field.name}"' for field in fields])
    optional = [f'"{field.name}"' for field in op.fields if field.optional]
    if optional:
        lines += _tuple("    OPTIONAL = ", optional)
    if op.reader != 1:
        lines.append(f"    READER = {op.reader}")
    readers = [f'"{field.name}": {field.reader}' for field in op.fields if field.reader != 1]
    if readers:
        lines += _sequence("    FIELD_READERS: ClassVar[Mapping[str, int]] = ", "{", readers, "}")
    return "\n".join(lines) + "\n"


def _constructor_order(op: schema.OpRow) -> List[schema.Field]:
    return sorted(op.fields, key=lambda field: field.default is not None)


def _tuple(start: str, items: Sequence[str]) -> List[str]:
    if len(items) == 1:
        return [f"{start}({items[0]},)"]
    return _sequence(start, "(", items, ")")


def _sequence(start: str, opened: str, items: Sequence[str], closed: str) -> List[str]:
    """On one line where it fits, else an item a line."""
    line = f"{start}{opened}{', '.join(items)}{closed}"
    if len(line) <= WIDTH:
        return [line]
    return [f"{start}{opened}", *(f"        {item}," for item in items), f"    {closed}"]


_ENUMS_HEAD = """\
// The enums and constants of a compiled graph.
// Generated from obert_edge/bundle/schema.py by tools/dev/generate_ops.py: edit the schema.
//
// Kernels include this file and are compiled for their own instruction set, so it holds no function:
// the linker could keep their copy of one, which baseline code must not run.
// clang-format off
#ifndef OBERT_EDGE_ENUMS_H
#define OBERT_EDGE_ENUMS_H

#include <stdint.h>

namespace oe {
"""

_OPS_HEAD = """\
// The ops of a compiled graph: records as they are stored, and a struct of named fields for each kind.
// Generated from obert_edge/bundle/schema.py by tools/dev/generate_ops.py: edit the schema.
// clang-format off
#ifndef OBERT_EDGE_OPS_H
#define OBERT_EDGE_OPS_H

#include <stdint.h>

#include "program/enums.h"

namespace oe {
"""


def enums_header() -> str:
    """``obert_edge/engine/program/enums.h``."""
    lines = [_ENUMS_HEAD.rstrip("\n"), ""]
    for constant in schema.CONSTANTS:
        value = f"0x{constant.value:X}u" if constant.cpp.startswith("uint") else str(constant.value)
        lines += [*_cpp_comment(constant.doc), f"constexpr {constant.cpp} = {value};"]
    for enum in schema.ENUMS:
        lines += ["", *_cpp_comment(enum.doc), f"enum class {enum.cpp} : int32_t {{"]
        lines += [f"  {_camel(m.name)} = {m.number},  // {m.doc}" for m in enum.members]
        lines.append("};")
        first, last = enum.members[0].number, enum.members[-1].number
        lines.append(f"constexpr int32_t kFirst{enum.cpp} = {first}, kLast{enum.cpp} = {last};")
        unused = ["nullptr"] * first
        names = ", ".join(unused + [f'"{m.name}"' for m in enum.members])
        lines.append(f"// The names of a {enum.cpp}, by number.")
        lines.append(f"constexpr const char* k{enum.cpp}Names[] = {{{names}}};")
        for at, fact in enumerate(enum.facts):
            none = ["false" if fact.type == "bool" else "0"] * first
            values = ", ".join(none + [str(m.facts[at]).lower() for m in enum.members])
            kind = "bool" if fact.type == "bool" else "int32_t"
            lines += _cpp_comment(f"By number: {fact.doc}")
            lines.append(f"constexpr {kind} {fact.cpp}[] = {{{values}}};")
    return "\n".join([*lines, "", "}  // namespace oe", "#endif", ""])


def ops_header() -> str:
    """``obert_edge/engine/program/ops.h``."""
    lines = [_OPS_HEAD.rstrip("\n"), "", "enum class OpKind : uint32_t {"]
    lines += [f"  {op.name} = {op.kind}," for op in schema.OPS]
    first, last = schema.OPS[0].kind, schema.OPS[-1].kind
    lines += ["};", f"constexpr uint32_t kFirstOpKind = {first}, kLastOpKind = {last};", ""]
    lines += ["// Places of a record; those an op does not use hold kAbsent or 0."]
    places = ", ".join(f"kMax{name.capitalize()} = {schema.RECORD[name]}" for name in LISTS)
    lines += [f"constexpr int32_t {places}, kNameBytes = {schema.RECORD['name']};", ""]
    lines += ["// One record of the op table, as it is stored.", "struct Op {", "  OpKind kind;"]
    for name in LISTS:
        kind = "float" if name == "floats" else "int32_t"
        lines.append(f"  {kind} {name}[kMax{name.capitalize()}];")
    lines += ["  char name[kNameBytes];", "};", ""]
    lines += ["// How many places of each sort a kind of op uses, by number, and what the schema calls it."]
    lines += ["struct OpShape {", "  const char* name;", f"  int32_t {', '.join(LISTS)};", "};"]
    lines += ["constexpr OpShape kOpShapes[] = {", *["    {nullptr, 0, 0, 0, 0, 0},"] * first]
    lines += [f'    {{"{o.name}", {", ".join(str(len(getattr(o, n))) for n in LISTS)}}},' for o in schema.OPS]
    lines += ["};", "", "// Calls `DO(Name)` for every kind of op, in the order of their numbers."]
    lines += ["#define OE_FOR_EACH_OP(DO) \\", *(f"  DO({op.name}) \\" for op in schema.OPS[:-1])]
    lines.append(f"  DO({schema.OPS[-1].name})")
    for op in schema.OPS:
        lines += ["", *_cpp_op(op)]
    return "\n".join([*lines, "", "}  // namespace oe", "#endif", ""])


def _cpp_op(op: schema.OpRow) -> Iterator[str]:
    snake = _snake(op.name)
    yield f"// ---- {op.name}: {op.doc.split(chr(10))[0]}".replace("``", "")
    yield f"namespace {snake}_op {{  // places"
    for name in LISTS:
        fields = getattr(op, name)
        if fields:
            yield f"enum {{ {', '.join('k' + _camel(field.name) for field in fields)} }};  // {name}"
    yield f"}}  // namespace {snake}_op"
    yield f"struct {op.name}Fields {{"
    values = []
    for name in LISTS:
        for field in getattr(op, name):
            cpp = next((enum.cpp for enum in schema.ENUMS if enum.name == field.enum), "")
            kind = cpp or ("float" if name == "floats" else "int32_t")
            doc = f"{field.doc}{'; or kAbsent' if field.optional else ''}"
            doc = doc.replace("``", "").replace("PAD_ROW", "kPadRow")
            yield f"  {kind} {field.name};  // {doc}"
            value = f"op.{name}[{snake}_op::k{_camel(field.name)}]"
            values.append(f"static_cast<{cpp}>({value})" if cpp else value)
    yield "};"
    yield f"static inline {op.name}Fields {snake}_fields(const Op& op) {{"
    yield "  return {"
    yield from (f"      {value}," for value in values)
    yield "  };"
    yield "}"


def _cpp_comment(text: str) -> List[str]:
    return textwrap.wrap(text.replace("``", ""), 118, initial_indent="// ", subsequent_indent="// ")


def _camel(name: str) -> str:
    return "".join(part[0].upper() + part[1:].lower() for part in name.split("_"))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def generated() -> Dict[Path, str]:
    """Every generated file and what it should hold."""
    engine = ROOT / "obert_edge" / "engine" / "program"
    return {
        ROOT / "obert_edge" / "bundle" / "ops.py": python_source(),
        engine / "enums.h": enums_header(),
        engine / "ops.h": ops_header(),
    }


def stale() -> List[Path]:
    """The generated files that do not hold what the schema says."""
    return [path for path, text in generated().items() if not path.exists() or path.read_text() != text]


def main(arguments: Sequence[str]) -> int:
    """Write the stale files, or with ``--check`` only name them; the exit code."""
    parser = command_line.parser("tools.dev.generate_ops", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    options = parser.parse_args(arguments)
    found = stale()
    for path in found:
        if not options.check:
            path.write_text(generated()[path])
        sys.stderr.write(f"{'stale' if options.check else 'wrote'} {path.relative_to(ROOT)}\n")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
