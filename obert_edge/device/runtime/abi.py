"""The engine's C ABI as ctypes sees it: the Python twin of ``engine/include/obert_edge.h``.

Structures have the fields of the header's, in their order, and functions its types. What a failed call left
behind becomes one of our errors here, and nowhere else.
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, NoReturn, Tuple, Type

from obert_edge.errors import BundleError, InputError, ObertEdgeError, UnsupportedDeviceError

ABI_VERSION = 1

OK = 0
_INVALID_PROGRAM = 1
_INVALID_INPUT = 2
_OUT_OF_MEMORY = 3
_UNSUPPORTED = 4
INTERRUPTED = 5

_ERRORS: Dict[int, Tuple[Type[ObertEdgeError], str]] = {
    _INVALID_PROGRAM: (BundleError, "rebuild the bundle with `obert-edge build`"),
    _INVALID_INPUT: (InputError, "correct the arrays; see `obert-edge inspect` for what the model takes"),
    _OUT_OF_MEMORY: (UnsupportedDeviceError, "use a smaller batch, shorter sequences or fewer threads"),
    _UNSUPPORTED: (
        UnsupportedDeviceError,
        "name an implementation that `obert-edge doctor` lists, or none (is OBERT_EDGE_IMPLEMENTATION set?)",
    ),
}


#: What ``oe_model_run_polled`` asks now and then: 0: go on.
Poll = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


class Batch(ctypes.Structure):
    """``oe_batch`` of ``obert_edge.h``."""

    _fields_ = [
        ("sequences", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("starts", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("token_types", ctypes.c_void_p),
    ]


class InputRules(ctypes.Structure):
    """What a model says about its inputs: ``oe_input_rules`` of ``obert_edge.h``, with its fields."""

    _fields_ = [
        ("vocabulary", ctypes.c_int32),
        ("max_length", ctypes.c_int32),
        ("type_vocabulary", ctypes.c_int32),
        ("position_offset", ctypes.c_int32),
        ("pad_id", ctypes.c_int32),
        ("uses_first_token", ctypes.c_int32),
    ]


class Padded(ctypes.Structure):
    """``oe_padded`` of ``obert_edge.h``."""

    _fields_ = [
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("input_ids", ctypes.c_void_p),
        ("attention_mask", ctypes.c_void_p),
        ("token_type_ids", ctypes.c_void_p),
        ("id_bytes", ctypes.c_int32),
        ("mask_bytes", ctypes.c_int32),
        ("type_bytes", ctypes.c_int32),
    ]


class Packed(ctypes.Structure):
    """``oe_packed`` of ``obert_edge.h``."""

    _fields_ = [
        ("batch", Batch),
        ("places", ctypes.c_void_p),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
    ]


def declare(functions: ctypes.CDLL) -> ctypes.CDLL:
    """Set argument and result types of the C ABI; ``AttributeError`` when the library is not an engine."""
    i32, i64, u64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
    rules, padded, packed = map(ctypes.POINTER, (InputRules, Padded, Packed))
    signatures: Dict[str, Tuple[Any, List[Any]]] = {
        "oe_abi_version": (i32, []),
        "oe_last_error": (ctypes.c_char_p, []),
        "oe_last_status": (i32, []),
        "oe_implementations": (ctypes.c_char_p, []),
        "oe_model_open": (pointer, [ctypes.c_char_p, u64, pointer, u64, i32, ctypes.c_char_p]),
        "oe_model_close": (None, [pointer]),
        "oe_model_implementation": (ctypes.c_char_p, [pointer]),
        "oe_model_run": (i32, [pointer, pointer, pointer, i32]),
        "oe_model_arena_bytes": (u64, [pointer]),
        "oe_model_profile": (i32, [pointer, i32]),
        "oe_model_profile_read": (i32, [pointer, pointer, i32, pointer]),
        "oe_model_run_op": (i32, [pointer, i32, pointer, pointer, i32, pointer]),
    }
    added_later: Dict[str, Tuple[Any, List[Any]]] = {
        "oe_last_hint": (ctypes.c_char_p, []),
        "oe_model_set_cache": (None, [pointer, u64]),
        "oe_model_run_polled": (i32, [pointer, pointer, pointer, i32, Poll, pointer]),
        "oe_model_trim": (None, [pointer]),
        "oe_crc32": (i32, [pointer, u64, pointer]),
        "oe_measure_peak": (ctypes.c_double, [ctypes.c_char_p, i32, i64]),
        "oe_pack_room": (i64, [i64, i64]),
        "oe_pack": (i32, [rules, padded, pointer, packed]),
        "oe_unpack": (None, [packed, i32, pointer, pointer]),
        "oe_count_positions": (None, [rules, i32, pointer, pointer]),
    }
    signatures.update({name: types for name, types in added_later.items() if hasattr(functions, name)})
    for name, (result, arguments) in signatures.items():
        function = getattr(functions, name)
        function.restype = result
        function.argtypes = arguments
    return functions


def raise_last_error(functions: ctypes.CDLL, status: int) -> NoReturn:
    """Raise what the library says of the last failure on this thread."""
    error, hint = _ERRORS.get(status, (ObertEdgeError, ""))
    if hasattr(functions, "oe_last_hint"):
        hint = functions.oe_last_hint().decode() or hint
    raise error(functions.oe_last_error().decode(errors="replace"), hint=hint)
