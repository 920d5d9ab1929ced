"""The engine library through ctypes.

Needs numpy only. Nothing here knows of bundles or tokenizers: bytes of a program and of its weights go in,
float32 arrays come out.
"""

from __future__ import annotations

import ctypes
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Generator, List, Optional, Sequence, Tuple, Union, cast

import numpy as np

from obert_edge.bundle.program import Domain, Program
from obert_edge.device.runtime import abi
from obert_edge.errors import InputError, UnsupportedDeviceError, UsageError

#: Bytes that the addresses of weights and of panels are multiples of.
ALIGNMENT = 64
#: The most threads that the engine takes.
MOST_THREADS = 1024
_INT32 = np.dtype(np.int32)
#: Shapes whose room a :class:`Packer` remembers.
_MOST_ROOMS = 1024
Weights = Union[bytes, bytearray, memoryview, np.ndarray]


@dataclass(frozen=True)
class PackedBatch:
    """Sequences one after the other, without padding.

    Args:
        starts: int32 [sequences + 1]; sequence ``s`` owns tokens ``starts[s] .. starts[s + 1]``.
        ids: int32 [tokens].
        positions: int32 [tokens]: rows of the position table.
        token_types: int32 [tokens], or None: all zero.
    """

    starts: np.ndarray
    ids: Optional[np.ndarray] = None
    positions: Optional[np.ndarray] = None
    token_types: Optional[np.ndarray] = None

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.starts) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens of all sequences."""
        return int(self.starts[-1])


class Library:
    """A loaded engine library.

    Args:
        path: the ``.so``.

    Raises:
        UnsupportedDeviceError: it cannot be loaded on this machine, or speaks another ABI.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        try:
            self._functions = abi.declare(ctypes.CDLL(str(self.path)))
        except (OSError, AttributeError) as error:
            raise UnsupportedDeviceError(
                f"the engine library {self.path} cannot be loaded: {error}",
                hint="use a bundle built for this machine (`obert-edge build --target`), on Linux with glibc",
            ) from error
        version = self._functions.oe_abi_version()
        if version != abi.ABI_VERSION:
            raise UnsupportedDeviceError(
                f"the engine library {self.path} has ABI version {version}; "
                f"this runner knows {abi.ABI_VERSION}",
                hint="use the obert-edge the library came with",
            )

    def implementations(self) -> Tuple[str, ...]:
        """Names of the kernel implementations this CPU can run, best first."""
        return tuple(self._functions.oe_implementations().decode().split(","))

    @property
    def is_delegate(self) -> bool:
        """Whether LiteRT can load it as an external delegate; libraries older than that are without it."""
        return hasattr(self._functions, "tflite_plugin_create_delegate")

    def measure_peak(self, implementation: str, what: int, parameter: int = 0) -> float:
        """What one thread can do at most, measured now: ``oe_measure_peak`` of ``obert_edge.h``.

        Args:
            implementation: whose instructions to use.
            what: one of the header's ``OE_PEAK_...``.
            parameter: what some of these rates depend on, as ``oe_measure_peak`` says; else 0.

        Returns:
            Units per nanosecond; 0 where this library does not know.
        """
        if not hasattr(self._functions, "oe_measure_peak"):
            return 0.0
        return float(self._functions.oe_measure_peak(implementation.encode(), what, parameter))

    def crc32(self, data: Union[bytes, bytearray, memoryview]) -> int:
        """CRC-32 as zlib computes it, by the instructions of the CPU where it and this library have them.

        Lets go of the interpreter meanwhile.

        Args:
            data: any number of contiguous bytes.
        """
        if hasattr(self._functions, "oe_crc32"):
            array = np.frombuffer(data, np.uint8) if len(data) else np.zeros(0, np.uint8)
            result = ctypes.c_uint32()
            if self._functions.oe_crc32(_address(array), array.nbytes, ctypes.byref(result)) == abi.OK:
                return result.value
        return zlib.crc32(data)

    def open(
        self,
        program: bytes,
        weights: Weights,
        *,
        threads: int = 1,
        implementation: Optional[str] = None,
        cache: int = 0,
    ) -> NativeModel:
        """A model ready to run; see :class:`NativeModel`."""
        return NativeModel(
            self, program, weights, threads=threads, implementation=implementation, cache=cache
        )


class Packer:
    """Packs the real tokens of padded arrays: ``oe_pack`` of ``obert_edge.h``, which says what it checks.

    Args:
        library: the engine.
        rules: what the model says about its inputs.

    Raises:
        UnsupportedDeviceError: the library is older than this function.
    """

    def __init__(self, library: Library, rules: abi.InputRules) -> None:
        self._functions = _with_packing(library)
        self._rules = rules
        self._rooms: Dict[Tuple[int, int], int] = {}

    def pack(
        self, ids: np.ndarray, mask: Optional[np.ndarray] = None, types: Optional[np.ndarray] = None
    ) -> Packed:
        """Pack a batch.

        Args:
            ids: ``[rows, columns]``, contiguous, of bool, uint8, int32 or int64, as the others.
            mask: 1: a real token, 0: masked; None: all 1.
            types: token types; None: all 0.

        Raises:
            InputError: a real token breaks a rule, a mask is neither 0 nor 1, or a row has no real token.
        """
        shape = rows, columns = ids.shape
        room = self._rooms.get(shape) or self._room(shape)
        memory = np.empty(room, np.int32)
        padded = abi.Padded(
            rows,
            columns,
            _address(ids),
            None if mask is None else _address(mask),
            None if types is None else _address(types),
            ids.itemsize,
            0 if mask is None else mask.itemsize,
            0 if types is None else types.itemsize,
        )
        packed = abi.Packed()
        status = self._functions.oe_pack(self._rules, padded, _address(memory), packed)
        if status != abi.OK:
            abi.raise_last_error(self._functions, status)
        return Packed(self._functions, packed, memory, shape)

    def _room(self, shape: Tuple[int, int]) -> int:
        room = int(self._functions.oe_pack_room(*shape))
        if room == 0:
            abi.raise_last_error(self._functions, self._functions.oe_last_status())
        if len(self._rooms) < _MOST_ROOMS:
            self._rooms[shape] = room
        return room


class Packed:
    """A packed batch, and where its tokens came from; made by :meth:`Packer.pack`.

    :meth:`NativeModel.run` takes it as it is: a short text runs in 2 ms, so no array is made for nothing.

    Attributes:
        shape: ``(rows, columns)`` of the padded arrays.
    """

    def __init__(
        self, functions: ctypes.CDLL, packed: abi.Packed, memory: np.ndarray, shape: Tuple[int, int]
    ) -> None:
        self._functions = functions
        self._packed = packed
        self._memory = memory  # its arrays lie in here
        self.shape = shape

    @property
    def batch(self) -> PackedBatch:
        """Its arrays."""
        native, first = self._packed.batch, _address(self._memory)

        def values(address: int, count: int) -> np.ndarray:
            at = (address - first) // 4
            return self._memory[at : at + count]

        tokens = native.tokens
        return PackedBatch(
            values(native.starts, native.sequences + 1),
            values(native.ids, tokens),
            values(native.positions, tokens),
            None if native.token_types is None else values(native.token_types, tokens),
        )

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        """Per-token rows in their places.

        Args:
            rows: float32 ``[tokens, C]``.

        Returns:
            float32 ``[rows, columns, C]``, 0 where the mask is 0; a view of ``rows`` when no token is masked.
        """
        channels = rows.shape[-1]
        if self._packed.batch.tokens == self.shape[0] * self.shape[1]:
            return rows.reshape(*self.shape, channels)
        rows = np.ascontiguousarray(rows, np.float32)
        result = np.empty((*self.shape, channels), np.float32)
        self._functions.oe_unpack(self._packed, channels, _address(rows), _address(result))
        return result


def count_positions(library: Library, rules: abi.InputRules, starts: np.ndarray) -> np.ndarray:
    """The positions of sequences of which every token counts: ``oe_count_positions`` of ``obert_edge.h``.

    Args:
        library: the engine.
        rules: what the model says about its inputs.
        starts: int32 ``[sequences + 1]``, ascending from 0.

    Returns:
        int32 ``[tokens]``.

    Raises:
        UnsupportedDeviceError: the library is older than this function.
    """
    functions = _with_packing(library)
    starts = _as_int32("starts", starts)
    positions = np.empty(int(starts[-1]), np.int32)
    functions.oe_count_positions(rules, len(starts) - 1, _address(starts), _address(positions))
    return positions


def _with_packing(library: Library) -> ctypes.CDLL:
    functions = library._functions
    if not hasattr(functions, "oe_pack"):
        raise UnsupportedDeviceError(
            f"the engine library {library.path} is older than this obert-edge: it cannot pack batches",
            hint="rebuild the bundle with `obert-edge build`, or run `pip install obert-edge` on this device",
        )
    return functions


class NativeModel:
    """One compiled graph over one weights blob. Not to be used from two threads at once.

    Args:
        library: the engine.
        program: ``Program.to_bytes()``.
        weights: any buffer; used in place when its address is a multiple of 64, else copied.
        threads: threads to compute with, the caller's included.
        implementation: a name of :meth:`Library.implementations`; None:
            ``$OBERT_EDGE_IMPLEMENTATION``, else the best.
        cache: bytes of second-level cache that a thread has while all work: linears with more weights are
            computed in tiles that stay there; 0: not known, no tiles. Results do not depend on it, and
            libraries older than this make none.

    Raises:
        BundleError: the blobs are not a program the engine can run.
        UnsupportedDeviceError: the implementation cannot run here, or there is no memory.
        InputError: ``threads`` or ``cache`` out of range.
        UsageError: ``implementation`` is no name.
    """

    def __init__(
        self,
        library: Library,
        program: bytes,
        weights: Weights,
        *,
        threads: int = 1,
        implementation: Optional[str] = None,
        cache: int = 0,
    ) -> None:
        self._handle: Optional[int] = None
        self._functions = library._functions
        self._signals: Optional[_Questions] = None
        self._library = library
        if cache < 0:
            raise InputError(f"cache is {cache}; it must be 0 or more bytes", hint="leave it out")
        if not 1 <= threads <= MOST_THREADS:  # before ctypes keeps 32 bits of it
            raise InputError(
                f"threads is {threads}; it must be 1 to {MOST_THREADS}", hint="leave it out for the default"
            )
        if implementation is not None and not isinstance(implementation, str):
            raise UsageError(
                f"implementation is {implementation!r}; expected a name",
                hint=f"name one of {', '.join(library.implementations())}, or leave it out",
            )
        blob = memoryview(cast(Any, weights))
        self._weights = _aligned(np.frombuffer(blob, np.uint8) if blob.nbytes else np.zeros(0, np.uint8))
        handle = self._functions.oe_model_open(
            program,
            len(program),
            self._weights.ctypes.data,
            self._weights.nbytes,
            threads,
            None if implementation is None else implementation.encode(),
        )
        if not handle:
            abi.raise_last_error(self._functions, self._functions.oe_last_status())
        self._handle = handle
        if cache and hasattr(self._functions, "oe_model_set_cache"):
            self._functions.oe_model_set_cache(handle, cache)
        self.program = Program.from_bytes(program)
        self._outputs = [(self.program.buffers[op.input].domain, op.channels) for op in self.program.outputs]

    def close(self) -> None:
        """Give the threads and the memory back; the model cannot be used any more."""
        if self._handle:
            self._functions.oe_model_close(self._handle)
            self._handle = None

    def __enter__(self) -> NativeModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    @property
    def implementation(self) -> str:
        """Name of the kernel implementation in use."""
        return str(self._functions.oe_model_implementation(self._live()).decode())

    @property
    def arena_bytes(self) -> int:
        """Bytes of activations and scratch: ``oe_model_arena_bytes`` of ``obert_edge.h``."""
        return int(self._functions.oe_model_arena_bytes(self._live()))

    def trim(self) -> None:
        """Give the memory of activations and scratch back; libraries older than this keep it."""
        handle = self._live()
        if hasattr(self._functions, "oe_model_trim"):
            self._functions.oe_model_trim(handle)

    def run(
        self, batch: Union[PackedBatch, Packed], poll: Optional[Callable[[], None]] = None
    ) -> List[np.ndarray]:
        """Run the whole graph.

        On Python's main thread, signal handlers are called while it runs, and an exception of theirs, such as
        the ``KeyboardInterrupt`` of Ctrl-C, ends the run within some tenths of a second. Libraries older than
        this finish it first.

        Args:
            batch: the tokens.
            poll: called before the run, and about ten times a second during it on the thread of the caller;
                what it raises ends the run. Libraries older than this do not call it during the run.

        Returns:
            Per Output op, float32 ``[tokens or sequences, channels]`` by the domain of its buffer.

        Raises:
            InputError: ids, positions, token types or lengths out of range.
            BundleError: the ops of the program do not feed each other soundly.
            UnsupportedDeviceError: no memory for a batch of this size.
        """
        handle = self._live()
        if poll is not None:
            poll()
        keep: object = batch
        if isinstance(batch, Packed):
            native = batch._packed.batch
        else:
            native, keep = _native_batch(batch)
        rows = {Domain.TOKENS: native.tokens, Domain.SEQUENCES: native.sequences}
        results = [np.empty((rows[domain], channels), np.float32) for domain, channels in self._outputs]
        pointers = (ctypes.c_void_p * len(results))(*map(_address, results))
        self._run(handle, native, pointers, len(results), poll)
        del keep
        return results

    def _run(
        self,
        handle: int,
        batch: abi.Batch,
        pointers: Any,
        count: int,
        poll: Optional[Callable[[], None]],
    ) -> None:
        functions = self._functions
        # Python calls signal handlers on its main thread alone; runs of others have nothing to wait for.
        is_main = threading.get_ident() == threading.main_thread().ident
        if (poll is None and not is_main) or not hasattr(functions, "oe_model_run_polled"):
            self._check(functions.oe_model_run(handle, ctypes.byref(batch), pointers, count))
            return
        if poll is None:
            questions = self._signals = self._signals or _Questions()
        else:
            questions = _Questions(poll)
        status = functions.oe_model_run_polled(
            handle, ctypes.byref(batch), pointers, count, questions.poll, None
        )
        if status == abi.INTERRUPTED:
            self._signals = None
            raise questions.raised[0]
        self._check(status)

    def run_op(
        self, index: int, batch: PackedBatch, buffers: Sequence[Optional[np.ndarray]], repeats: int = 1
    ) -> float:
        """Run one op alone on buffers of the caller, for tests and microbenchmarks.

        Args:
            index: the op's place in the program, from 0.
            batch: lengths (and ids, for an embedding).
            buffers: per buffer of the program an array in panel layout, 64-byte aligned
                (:func:`aligned_empty`), large enough for the batch; None where the op has no use for it.
            repeats: how often.

        Returns:
            Nanoseconds per repeat.
        """
        if len(buffers) != len(self.program.buffers):
            raise InputError(
                f"{len(buffers)} buffers were given; the program has {len(self.program.buffers)}",
                hint="pass one per buffer, None where unused",
            )
        native, keep = _native_batch(batch)
        pointers = (ctypes.c_void_p * max(1, len(buffers)))(
            *(None if array is None else array.ctypes.data for array in buffers)
        )
        nanoseconds = ctypes.c_uint64()
        self._check(
            self._functions.oe_model_run_op(
                self._live(), index, ctypes.byref(native), pointers, repeats, ctypes.byref(nanoseconds)
            )
        )
        del keep
        return nanoseconds.value / repeats

    def start_profile(self) -> None:
        """Measure every op from now on, starting at zero."""
        self._check(self._functions.oe_model_profile(self._live(), 1))

    def stop_profile(self) -> None:
        """Stop measuring; :meth:`profile` keeps what was found."""
        self._check(self._functions.oe_model_profile(self._live(), 0))

    def profile(self) -> Tuple[np.ndarray, int]:
        """``(nanoseconds uint64 [ops], runs)`` since :meth:`start_profile`, summed over the runs."""
        nanoseconds = np.zeros(len(self.program.ops), np.uint64)
        runs = ctypes.c_uint64()
        self._check(
            self._functions.oe_model_profile_read(
                self._live(), nanoseconds.ctypes.data, len(nanoseconds), ctypes.byref(runs)
            )
        )
        return nanoseconds, runs.value

    def _live(self) -> int:
        if not self._handle:
            raise InputError("the model was closed", hint="load it again")
        return self._handle

    def _check(self, status: int) -> None:
        if status != abi.OK:
            abi.raise_last_error(self._functions, status)


class _Questions:
    """Has Python call the handlers of signals that arrived while the engine runs, and a function.

    Args:
        ask: the function; ``None``: there is only Python to be asked.

    Attributes:
        poll: for ``oe_model_run_polled``.
        raised: what a handler or the function raised, which ends the run.
    """

    def __init__(self, ask: Optional[Callable[[], None]] = None) -> None:
        self.raised: List[BaseException] = []
        answers = _answer_polls(self.raised, ask)
        next(answers)
        self.poll = abi.Poll(answers.send)


def _answer_polls(
    raised: List[BaseException], ask: Optional[Callable[[], None]]
) -> Generator[int, None, None]:
    """0 for every poll until a signal handler or ``ask`` raises, which is kept; then 1.

    Python calls handlers between any two instructions, also before the first one of a function, where no
    ``try`` helps: ctypes would print the exception and forget it. A generator goes on inside its ``try``, and
    ctypes calls its ``send``, which is no function of Python's.
    """
    try:
        while True:
            yield 0
            if ask is not None:
                ask()
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
        yield 1


def aligned_empty(shape: Union[int, Sequence[int]], dtype: Any) -> np.ndarray:
    """An uninitialized array whose address is a multiple of 64."""
    count = int(np.prod(shape))
    size = np.dtype(dtype).itemsize
    block = np.empty(count * size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return cast(np.ndarray, block[start : start + count * size].view(dtype).reshape(shape))


def _aligned(blob: np.ndarray) -> np.ndarray:
    """``blob`` itself when it is aligned, else an aligned copy."""
    if blob.ctypes.data % ALIGNMENT == 0:
        return blob
    copy = aligned_empty(blob.shape, blob.dtype)
    copy[:] = blob
    return copy


def _native_batch(batch: PackedBatch) -> Tuple[abi.Batch, List[np.ndarray]]:
    """The batch for C, and the arrays that must stay alive while C uses it."""
    keep: List[np.ndarray] = []

    def address(what: str, values: Optional[np.ndarray], length: int) -> Optional[int]:
        if values is None:
            return None
        array = _as_int32(what, values)
        if array.shape != (length,):
            raise InputError(
                f"{what} has shape {array.shape}; it must be ({length},)",
                hint="pass one value per token",
            )
        keep.append(array)
        return _address(array)

    starts = _as_int32("starts", batch.starts)
    if starts.ndim != 1 or len(starts) < 2:
        raise InputError("the batch is empty", hint="pass at least one sequence")
    tokens = int(starts[-1])
    native = abi.Batch(
        len(starts) - 1,
        tokens,
        address("starts", starts, len(starts)),
        address("ids", batch.ids, tokens),
        address("positions", batch.positions, tokens),
        address("token_types", batch.token_types, tokens),
    )
    return native, keep


def _address(array: np.ndarray) -> int:
    """The address of an array's first element; ``array.ctypes.data`` takes several times as long."""
    return int(array.__array_interface__["data"][0])


def _as_int32(what: str, values: np.ndarray) -> np.ndarray:
    """Contiguous int32 values; never a silent wrap."""
    flags = values.flags if type(values) is np.ndarray else None
    if flags is not None and values.dtype is _INT32 and flags.c_contiguous and flags.aligned:
        return values
    array = np.asarray(values)
    if array.dtype == np.int32:
        return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])
    if array.dtype.kind not in "iu":
        raise InputError(
            f"{what} has dtype {array.dtype}; it must be an integer type", hint="pass int32 or int64"
        )
    limits = np.iinfo(np.int32)
    if array.size and (array.max() > limits.max or array.min() < limits.min):
        raise InputError(f"{what} holds {array.max()}, which is no 32-bit integer", hint="check the array")
    return np.ascontiguousarray(array, np.int32)
