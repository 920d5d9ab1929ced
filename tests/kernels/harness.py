"""Programs of single ops, and running them on every implementation of a library.

``tokens`` are packed tokens or, for buffers of the domain ``SEQUENCES``, sequences: the layout is the same.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import numpy as np

from obert_edge.bundle.program import ABSENT, Buffer, Const, Domain, DType, Op, Program
from obert_edge.device.runtime.native import Library, PackedBatch, aligned_empty

PANEL, STEP = 64, 16  # kPanel and kStep of kernels.h
NUMPY = {DType.U8: np.uint8, DType.S8: np.int8, DType.F32: np.float32}
CANARY = 0xA5  # in the bytes after an output, which no kernel may write


def panels(tokens: int) -> List[slice]:
    """The lanes of each panel of a buffer of ``tokens`` tokens, padding lanes included."""
    padded = -(-tokens // STEP) * STEP
    return [slice(begin, min(begin + PANEL, padded)) for begin in range(0, padded, PANEL)]


def to_panels(values: np.ndarray, dtype: DType, rng: np.random.Generator) -> np.ndarray:
    """Values [channels, tokens] in the engine's layout; padding lanes hold random finite numbers."""
    channels, tokens = values.shape
    padded = panels(tokens)[-1].stop
    wide = rng.integers(-100, 100, (channels, padded)).astype(NUMPY[dtype])
    wide[:, :tokens] = values
    flat = np.concatenate([wide[:, panel].reshape(-1) for panel in panels(tokens)])
    result = aligned_empty(flat.size, NUMPY[dtype])
    result[:] = flat
    return result


def from_panels(flat: np.ndarray, channels: int, tokens: int) -> np.ndarray:
    """The values [channels, tokens] of a buffer, without its padding lanes."""
    blocks, at = [], 0
    for panel in panels(tokens):
        width = panel.stop - panel.start
        blocks.append(flat[at : at + channels * width].reshape(channels, width))
        at += channels * width
    return np.concatenate(blocks, axis=1)[:, :tokens]


class ProgramBuilder:
    """Collects the buffers, constants and ops of a program; by default a buffer gets a slot of its own."""

    def __init__(self, max_positions: int = 512) -> None:
        self.program = Program(max_positions=max_positions)
        self._weights: List[bytes] = []
        self._size = 0

    def buffer(self, dtype: DType, channels: int, domain: Domain = Domain.TOKENS, slot: int = ABSENT) -> int:
        index = len(self.program.buffers)
        slot = self.program.slots if slot == ABSENT else slot
        self.program.buffers.append(Buffer(dtype, domain, channels, slot))
        return index

    def const(self, values: np.ndarray) -> int:
        data = np.ascontiguousarray(values).tobytes()
        self.program.consts.append(Const(self._size, len(data)))
        self._weights.append(data + bytes(-len(data) % 64))
        self._size += len(self._weights[-1])
        return len(self.program.consts) - 1

    def add(self, op: Op) -> int:
        self.program.ops.append(op)
        return len(self.program.ops) - 1

    @property
    def weights(self) -> bytes:
        return b"".join(self._weights)


def starts_of(lengths: Sequence[int]) -> np.ndarray:
    """The first token of each sequence and the end of the last, int32 [sequences + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def run_everywhere(
    library: Library,
    builder: ProgramBuilder,
    batch: PackedBatch,
    inputs: Dict[int, np.ndarray],
    outputs: Sequence[int],
    *,
    threads: Sequence[int] = (1, 2, 3),
    implementations: Optional[Sequence[str]] = None,
) -> List[np.ndarray]:
    """Run op 0 on every implementation and thread count; all must give the bits of the scalar kernels.

    Every run gets other numbers in the padding lanes, and its output buffers end in bytes that no kernel may
    write.

    Args:
        inputs: buffer -> values [channels, tokens].
        outputs: buffers to compare. One that is also an input is written in place.
        threads: the counts to run on, unless the library says (an emulated one does).
        implementations: names of those to run beside the scalar one; all by default.

    Returns:
        For each output the scalar kernels' values [channels, tokens].
    """
    program = builder.program
    blob, weights = program.to_bytes(), builder.weights
    tokens = {Domain.TOKENS: batch.tokens, Domain.SEQUENCES: batch.sequences}
    rng = np.random.default_rng(0)
    expected: List[np.ndarray] = []
    threads = getattr(library, "threads", threads)
    names = implementations or library.implementations()
    for name in ["scalar", *(name for name in names if name != "scalar")]:
        for count in threads:
            arrays: List[Optional[np.ndarray]] = [None] * len(program.buffers)
            for index, values in inputs.items():
                arrays[index] = to_panels(values, program.buffers[index].dtype, rng)
            for index in outputs:
                buffer = program.buffers[index]
                size = panels(tokens[buffer.domain])[-1].stop * buffer.channels * buffer.dtype.bytes
                block = aligned_empty(size + 64, np.uint8)
                block[:size] = rng.integers(0, 256, size)
                block[size:] = CANARY
                if index in inputs:
                    block[:size] = arrays[index].view(np.uint8)
                arrays[index] = block
            with library.open(blob, weights, threads=count, implementation=name) as model:
                model.run_op(0, batch, arrays)
            found = []
            for index in outputs:
                buffer, block = program.buffers[index], arrays[index]
                assert (block[-64:] == CANARY).all(), f"{name} wrote beyond its output"
                flat = block[:-64].view(NUMPY[buffer.dtype])
                found.append(from_panels(flat, buffer.channels, tokens[buffer.domain]))
            if not expected:
                expected = found
            for index, values, reference in zip(outputs, found, expected):
                different = values.view(np.uint8) != np.ascontiguousarray(reference).view(np.uint8)
                assert not different.any(), (
                    f"{name} with {count} threads differs from scalar in buffer {index}: "
                    f"{values[values != reference][:5]} against {reference[values != reference][:5]}"
                )
    return expected
