"""A tiny but complete encoder as a program, with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence

import numpy as np

from obert_edge.bundle.packing import code_columns, pack_linear
from obert_edge.bundle.program import (
    ABSENT,
    Activation,
    Attention,
    ColumnCoding,
    Domain,
    DType,
    Embed,
    LayerNorm,
    Linear,
    MeanPool,
    Output,
    Quantize,
    QuantizeDynamic,
    RowFormat,
    SelectFirst,
    WeightFormat,
)
from obert_edge.bundle.rows import group_count, pack_rows
from obert_edge.device.runtime.native import PackedBatch
from tests.kernels.harness import ProgramBuilder, starts_of

VOCABULARY, POSITIONS, TYPES = 50, 160, 2
HIDDEN, HEADS, INTERMEDIATE, LABELS = 24, 3, 40, 5


class EncoderBuilder(ProgramBuilder):
    """Embedding, ``layers`` transformer layers, a classifier on the first token, the mean of the tokens."""

    def __init__(
        self,
        layers: int = 2,
        dynamic: bool = False,
        seed: int = 0,
        int4: bool = False,
        compact: bool = False,
    ) -> None:
        super().__init__(max_positions=POSITIONS)
        self.rng = np.random.default_rng(seed)
        self.dynamic = dynamic
        self.int4 = int4
        self.compact = compact  # columns are stored as a bundle does
        self.formats = list(WeightFormat)
        hidden = self.buffer(DType.F32, HIDDEN)
        narrow = self.buffer(DType.U8, HIDDEN)
        wide = self.buffer(DType.U8, INTERMEDIATE)
        wide_float = self.buffer(DType.F32, INTERMEDIATE) if dynamic else ABSENT
        params = self.buffer(DType.F32, 2) if dynamic else ABSENT
        query = self.buffer(DType.U8, HIDDEN)
        key, value = self.buffer(DType.S8, HIDDEN), self.buffer(DType.S8, HIDDEN)
        context_float = self.buffer(DType.F32, HIDDEN) if dynamic else ABSENT
        self._embed(hidden)
        self._norm("embeddings.norm", hidden, narrow, params)
        for layer in range(layers):
            name = f"layer.{layer}"
            for part, buffer in (("query", query), ("key", key), ("value", value)):
                self._linear(f"{name}.{part}", narrow, params, buffer, HIDDEN, HIDDEN)
            context = context_float if dynamic else narrow
            self.add(
                Attention(f"{name}.attention", query, key, value, context, HEADS, HIDDEN // HEADS, 128, 120,
                          2e-4, 0.02 if dynamic else 1.5)
            )  # fmt: skip
            if dynamic:
                self.add(QuantizeDynamic(f"{name}.context", context, narrow, params, HIDDEN))
            self._linear(f"{name}.projection", narrow, params, hidden, HIDDEN, HIDDEN, residual=hidden)
            self._norm(f"{name}.attention.norm", hidden, narrow, params)
            up = wide_float if dynamic else wide
            self._linear(f"{name}.up", narrow, params, up, HIDDEN, INTERMEDIATE, activation=Activation.GELU)
            if dynamic:
                self.add(QuantizeDynamic(f"{name}.wide", up, wide, params, INTERMEDIATE))
            self._linear(f"{name}.down", wide, params, hidden, INTERMEDIATE, HIDDEN, residual=hidden)
            self._norm(f"{name}.norm", hidden, narrow, params)
        self._heads(hidden)

    def _embed(self, output: int) -> None:
        constants = []
        for rows in (VOCABULARY, POSITIONS, TYPES):
            constants.append(self.const(self.rng.integers(-127, 128, (rows, HIDDEN)).astype(np.int8)))
            constants.append(self.const(self.rng.uniform(0.005, 0.01, rows).astype(np.float32)))
        embed = Embed("embeddings", output, *constants, VOCABULARY, POSITIONS, TYPES, HIDDEN)
        if self.int4:
            shape = VOCABULARY, group_count(HIDDEN)
            embed = replace(
                embed,
                word=self.const(pack_rows(self.rng.integers(-8, 8, (VOCABULARY, HIDDEN)).astype(np.int8))),
                word_group_scale=self.const(self.rng.integers(-127, 128, shape).astype(np.int8)),
                word_format=RowFormat.INT4,
            )
        self.add(embed)

    def _norm(self, name: str, hidden: int, narrow: int, params: int) -> None:
        gamma = self.const(self.rng.uniform(0.8, 1.2, HIDDEN).astype(np.float32))
        beta = self.const(self.rng.normal(0, 0.1, HIDDEN).astype(np.float32))
        quantized = ABSENT if self.dynamic else narrow
        self.add(LayerNorm(name, hidden, hidden, quantized, gamma, beta, HIDDEN, 128, 1e-12, 40.0))
        if self.dynamic:
            self.add(QuantizeDynamic(f"{name}.quantize", hidden, narrow, params, HIDDEN))

    def _linear(
        self, name: str, source: int, params: int, output: int, k: int, n: int, *,
        residual: int = ABSENT, activation: Activation = Activation.NONE,
    ) -> None:  # fmt: skip
        weight_format = self.formats[len(self.program.ops) % len(self.formats)]
        weights = self.rng.integers(-127, 128, (n, k)).astype(np.int8)
        weights[self.rng.random((n, k)) < 0.5] = 0
        packed = pack_linear(weights, weight_format)
        coding = ColumnCoding.LIST
        if self.compact:
            packed["columns"], coding = code_columns(packed, weight_format, k)
        dynamic = params != ABSENT
        sums = weights.astype(np.int64).sum(axis=1).astype(np.int32)
        scale = np.full(n, (0.02 if dynamic else 3e-4) / k**0.5, np.float32)
        signed = self.program.buffers[output].dtype is DType.S8
        arrays = {part: self.const(packed[part]) for part in ("rows", "offsets", "columns", "weights")}
        self.add(
            Linear(
                name, source, params, residual, output, **arrays, scale=self.const(scale),
                bias=self.const(self.rng.normal(0, 0.1, n).astype(np.float32)),
                correction=self.const(sums if dynamic else -128 * sums),
                k=k, n=n, groups=len(packed["offsets"]) - 1, format=weight_format, activation=activation,
                zero_point=0 if signed else 128, lo=-127 if signed else 0, hi=127 if signed else 255,
                inv_scale=50.0, column_coding=coding,
            )
        )  # fmt: skip

    def _heads(self, hidden: int) -> None:
        first = self.buffer(DType.F32, HIDDEN, Domain.SEQUENCES)
        mean = self.buffer(DType.F32, HIDDEN, Domain.SEQUENCES)
        narrow = self.buffer(DType.U8, HIDDEN, Domain.SEQUENCES)
        logits = self.buffer(DType.F32, LABELS, Domain.SEQUENCES)
        self.add(SelectFirst("first", hidden, first, HIDDEN))
        self.add(MeanPool("mean", hidden, mean, HIDDEN))
        self.add(Quantize("classifier.input", first, narrow, HIDDEN, 128, 40.0))
        self._linear("classifier", narrow, ABSENT, logits, HIDDEN, LABELS)
        self.add(Output("logits", logits, LABELS))
        self.add(Output("embedding", mean, HIDDEN))
        self.add(Output("hidden", hidden, HIDDEN))


def batch_of(lengths: Sequence[int], seed: int = 0, types: bool = True) -> PackedBatch:
    """Random sequences of these lengths."""
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    kinds: Optional[np.ndarray] = rng.integers(0, TYPES, tokens).astype(np.int32) if types else None
    return PackedBatch(
        starts_of(lengths),
        rng.integers(0, VOCABULARY, tokens).astype(np.int32),
        np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        kinds,
    )


def split(batch: PackedBatch) -> Sequence[PackedBatch]:
    """Each sequence of the batch as a batch of its own."""
    parts = []
    for begin, end in zip(batch.starts, batch.starts[1:]):
        at = slice(begin, end)
        kinds = None if batch.token_types is None else batch.token_types[at]
        parts.append(PackedBatch(np.array([0, end - begin]), batch.ids[at], batch.positions[at], kinds))
    return parts
