"""IEEE arithmetic for what Python computes: the counterpart of ``engine/exec/float_mode.h``."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import Any, Iterator, Optional, Tuple

#: ``FE_DFL_ENV`` of ``fenv.h``: round to nearest, no flushing of denormals, no traps.
_DEFAULT = ctypes.c_void_p(-1)
#: Room for ``fenv_t``, in units of 8 bytes; x86-64 has the largest, of 32 bytes.
_ROOM = ctypes.c_uint64 * 8


@contextlib.contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Give this thread the arithmetic that every program starts with, and at the end its own again.

    Other libraries of the process may have switched it to another rounding, or to flushing denormals; numpy
    would then give other bits for the same input. Where the system has no ``fegetenv`` nothing happens.
    """
    functions = _functions()
    if functions is None:
        yield
        return
    get, put = functions
    saved = _ROOM()
    get(saved)
    put(_DEFAULT)
    try:
        yield
    finally:
        put(saved)


@functools.lru_cache(maxsize=1)
def _functions() -> Optional[Tuple[Any, Any]]:
    """``fegetenv`` and ``fesetenv`` of the C library."""
    for name in ("libm.so.6", None):
        try:
            library = ctypes.CDLL(name)
            return library.fegetenv, library.fesetenv
        except (OSError, AttributeError):
            continue
    return None
