"""Embedded test cases: inputs and the exact outputs they must give, in ``cases.bin``.

The member is laid out as safetensors is (8 bytes of length, JSON, one buffer), so other tools can read it,
but parsed here by a stricter reader that needs only numpy. Case ``i`` owns the arrays ``i.starts``,
``i.ids``, ``i.token_types`` and ``i.output.<name>``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NoReturn

import numpy as np

from obert_edge.errors import BundleError

_DTYPES = {"I32": np.dtype("<i4"), "F32": np.dtype("<f4")}
_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class Case:
    """One batch and what it must give.

    Attributes:
        starts: int32 [sequences + 1]; sequence s owns tokens starts[s]..starts[s + 1].
        ids: int32 [tokens].
        token_types: int32 [tokens].
        outputs: name -> float32 [tokens or sequences, channels], exact to the bit.
    """

    starts: np.ndarray
    ids: np.ndarray
    token_types: np.ndarray
    outputs: Dict[str, np.ndarray] = field(default_factory=dict)


def write_cases(cases: List[Case]) -> bytes:
    """The bytes of ``cases.bin``; the same cases give the same bytes."""
    arrays: Dict[str, np.ndarray] = {}
    for i, case in enumerate(cases):
        arrays[f"{i}.starts"] = case.starts.astype("<i4")
        arrays[f"{i}.ids"] = case.ids.astype("<i4")
        arrays[f"{i}.token_types"] = case.token_types.astype("<i4")
        for name, value in case.outputs.items():
            arrays[f"{i}.output.{name}"] = value.astype("<f4")
    header: Dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        dtype = "I32" if array.dtype == _DTYPES["I32"] else "F32"
        end = at + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


def read_cases(data: memoryview) -> List[Case]:
    """Parse what :func:`write_cases` wrote; the arrays are views of ``data``.

    Raises:
        BundleError: truncated, altered, or a case lacks an array.
    """
    arrays = _read_arrays(data)
    cases: List[Case] = []
    while f"{len(cases)}.starts" in arrays:
        prefix = f"{len(cases)}."
        own = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
        try:
            starts, ids, types = own.pop("starts"), own.pop("ids"), own.pop("token_types")
        except KeyError as error:
            _refuse(f"case {len(cases)} lacks {error}")
        case = Case(starts, ids, types, {name[len("output.") :]: own[name] for name in own})
        _check_case(case, len(cases))
        cases.append(case)
    return cases


def _check_case(case: Case, number: int) -> None:
    """Refuse arrays that are no batch, or whose lengths differ."""
    starts = case.starts
    for name, array in (("starts", starts), ("ids", case.ids), ("token_types", case.token_types)):
        if array.dtype != _DTYPES["I32"] or array.ndim != 1:
            _refuse(
                f"{name} of case {number} is {array.dtype} with {array.ndim} axes, expected a row of int32"
            )
    if len(starts) < 2 or starts[0] != 0 or (starts[1:] <= starts[:-1]).any():
        _refuse(f"starts of case {number} do not ascend from 0")
    tokens = int(starts[-1])
    if len(case.ids) != tokens or len(case.token_types) != tokens:
        _refuse(
            f"case {number} has {len(case.ids)} ids and {len(case.token_types)} token types for {tokens} "
            "tokens"
        )
    for name, array in case.outputs.items():
        if array.dtype != _DTYPES["F32"] or array.ndim != 2 or len(array) not in (tokens, len(starts) - 1):
            _refuse(
                f"output {name!r} of case {number} is {array.dtype} {array.shape}, expected float32 by rows"
            )


def _read_arrays(data: memoryview) -> Mapping[str, np.ndarray]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        _refuse(f"its header of {length} bytes does not fit its {len(data)} bytes")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        arrays = {}
        at = 0
        for name, spec in header.items():
            dtype, shape = _DTYPES[spec["dtype"]], [_whole(size) for size in spec["shape"]]
            begin, end = map(_whole, spec["data_offsets"])
            span = data[8 + length + begin : 8 + length + end]
            if begin != at or len(span) != end - begin:
                _refuse(f"array {name!r} is not where it should be")
            arrays[name] = np.frombuffer(span, dtype).reshape(shape)
            at = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"the embedded test cases cannot be parsed: {error}", hint="rebuild the bundle"
        ) from error
    if 8 + length + at != len(data):
        _refuse(f"it has {len(data)} bytes where its header implies {8 + length + at}")
    return arrays


def _whole(value: Any) -> int:
    """A whole number from 0 on.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:60]} is no size")
    return value


def _refuse(found: str) -> NoReturn:
    raise BundleError(f"the embedded test cases are malformed: {found}", hint="rebuild the bundle")
