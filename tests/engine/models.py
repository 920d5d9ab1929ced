"""A tiny but complete encoder as a program, with random weights.

``EncoderBuilder(layers=1).program`` is the compiled graph and ``.weights`` its blob: embeddings, layers, a
classifier on the first token, the mean of the tokens, and the tokens themselves. Names of ops say where they
stand: ``embeddings``, ``embeddings.norm``, ``layer.0.query``, ``layer.0.attention``, ``classifier`` ...
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Sequence

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
#: The zero point and 1 / scale of every quantized activation.
ZERO_POINT, INV_SCALE = 128, 40.0


class EncoderBuilder(ProgramBuilder):
    """The program of an encoder.

    Its linears take turns at the weight formats, in the order of the enum, so that one layer has them all.

    Args:
        layers: transformer layers.
        dynamic: activations are quantized with a scale for each token, not with those of the program.
        seed: of the random weights.
        int4: the word table has INT4 rows.
        compact: columns are stored as a bundle stores them, as masks where those are smaller.
        positions: rows of the attention's position tables, one for each distance; 0: it has none.
    """

    def __init__(
        self,
        layers: int = 2,
        dynamic: bool = False,
        seed: int = 0,
        int4: bool = False,
        compact: bool = False,
        positions: int = 0,
    ) -> None:
        super().__init__(max_positions=POSITIONS)
        self.rng = np.random.default_rng(seed)
        self.dynamic = dynamic
        self.compact = compact
        self.positions = positions
        self.linears = 0
        # Buffer 0 holds the hidden states; a quantized copy of them is what linears read.
        self.hidden = self.buffer(DType.F32, HIDDEN)
        self.quantized = self.buffer(DType.U8, HIDDEN)
        self.wide = self.buffer(DType.U8, INTERMEDIATE)
        # What is quantized per token exists as float first, and its scales lie in `params`.
        self.wide_float = self.buffer(DType.F32, INTERMEDIATE) if dynamic else ABSENT
        self.params = self.buffer(DType.F32, 2) if dynamic else ABSENT
        self.query = self.buffer(DType.U8, HIDDEN)
        self.key = self.buffer(DType.S8, HIDDEN)
        self.value = self.buffer(DType.S8, HIDDEN)
        self.context_float = self.buffer(DType.F32, HIDDEN) if dynamic else ABSENT
        self.add_embeddings(int4)
        for layer in range(layers):
            self.add_attention(f"layer.{layer}")
            self.add_feed_forward(f"layer.{layer}")
        self.add_heads()

    # ---- parts of the model

    def add_embeddings(self, int4: bool) -> None:
        embed = Embed(
            "embeddings",
            output=self.hidden,
            word=self.random_rows(VOCABULARY),
            word_scale=self.random_scales(VOCABULARY),
            position=self.random_rows(POSITIONS),
            position_scale=self.random_scales(POSITIONS),
            token_type=self.random_rows(TYPES),
            token_type_scale=self.random_scales(TYPES),
            vocabulary=VOCABULARY,
            positions=POSITIONS,
            token_types=TYPES,
            channels=HIDDEN,
        )
        if int4:
            rows = self.rng.integers(-8, 8, (VOCABULARY, HIDDEN)).astype(np.int8)
            scales = self.rng.integers(-127, 128, (VOCABULARY, group_count(HIDDEN))).astype(np.int8)
            embed = replace(
                embed,
                word=self.const(pack_rows(rows)),
                word_group_scale=self.const(scales),
                word_format=RowFormat.INT4,
            )
        self.add(embed)
        self.add_norm("embeddings.norm")

    def add_attention(self, layer: str) -> None:
        for part, output in (("query", self.query), ("key", self.key), ("value", self.value)):
            self.add_linear(f"{layer}.{part}", self.quantized, output, params=self.params)
        self.add(
            Attention(
                f"{layer}.attention",
                query=self.query,
                key=self.key,
                value=self.value,
                output=self.context_float if self.dynamic else self.quantized,
                heads=HEADS,
                head_dim=HIDDEN // HEADS,
                query_zero_point=ZERO_POINT,
                zero_point=120,
                score_scale=2e-4,
                context_scale=0.02 if self.dynamic else 1.5,
                **(self.position_tables() if self.positions else {}),
            )
        )
        if self.dynamic:
            self.add_quantize(f"{layer}.context", self.context_float, self.quantized)
        self.add_linear(
            f"{layer}.projection", self.quantized, self.hidden, params=self.params, residual=self.hidden
        )
        self.add_norm(f"{layer}.attention.norm")

    def position_tables(self) -> Dict[str, int]:
        distances = (self.positions + 1) // 2
        tables = {"positions": self.positions, "distances": distances}
        rows = np.arange(2 * distances - 1, dtype=np.uint16)[::-1]
        tables["row_of_distance"] = self.const(rows % self.positions)
        for name in ("position_key", "position_query"):
            tables[name] = self.random_rows(self.positions)
            scales = self.rng.uniform(0, 4e-4, (HEADS, self.positions))
            tables[f"{name}_scale"] = self.const(scales.astype(np.float32))
        return tables

    def add_feed_forward(self, layer: str) -> None:
        up = self.wide_float if self.dynamic else self.wide
        self.add_linear(f"{layer}.up", self.quantized, up, params=self.params, activation=Activation.GELU)
        if self.dynamic:
            self.add_quantize(f"{layer}.wide", self.wide_float, self.wide)
        self.add_linear(f"{layer}.down", self.wide, self.hidden, params=self.params, residual=self.hidden)
        self.add_norm(f"{layer}.norm")

    def add_heads(self) -> None:
        first, mean = (self.buffer(DType.F32, HIDDEN, Domain.SEQUENCES) for _ in range(2))
        quantized = self.buffer(DType.U8, HIDDEN, Domain.SEQUENCES)
        logits = self.buffer(DType.F32, LABELS, Domain.SEQUENCES)
        self.add(SelectFirst("first", input=self.hidden, output=first, channels=HIDDEN))
        self.add(MeanPool("mean", input=self.hidden, output=mean, channels=HIDDEN))
        self.add(Quantize("classifier.input", first, quantized, HIDDEN, ZERO_POINT, INV_SCALE))
        self.add_linear("classifier", quantized, logits)
        self.add(Output("logits", input=logits, channels=LABELS))
        self.add(Output("embedding", input=mean, channels=HIDDEN))
        self.add(Output("hidden", input=self.hidden, channels=HIDDEN))

    # ---- ops

    def add_norm(self, name: str) -> None:
        """Normalize the hidden states in place, and quantize them."""
        self.add(
            LayerNorm(
                name,
                input=self.hidden,
                output=self.hidden,
                quantized=ABSENT if self.dynamic else self.quantized,
                gamma=self.const(self.rng.uniform(0.8, 1.2, HIDDEN).astype(np.float32)),
                beta=self.const(self.rng.normal(0, 0.1, HIDDEN).astype(np.float32)),
                channels=HIDDEN,
                zero_point=ZERO_POINT,
                epsilon=1e-12,
                inv_scale=INV_SCALE,
            )
        )
        if self.dynamic:
            self.add_quantize(f"{name}.quantize", self.hidden, self.quantized)

    def add_quantize(self, name: str, source: int, output: int) -> None:
        """Quantize with a scale for each token."""
        channels = self.program.buffers[source].channels
        self.add(QuantizeDynamic(name, input=source, output=output, params=self.params, channels=channels))

    def add_linear(
        self,
        name: str,
        source: int,
        output: int,
        *,
        params: int = ABSENT,
        residual: int = ABSENT,
        activation: Activation = Activation.NONE,
        weight_format: Optional[WeightFormat] = None,
    ) -> None:
        """Half of the weights are zero. ``weight_format`` None: the next one in turn."""
        if weight_format is None:
            weight_format = list(WeightFormat)[self.linears % len(WeightFormat)]
            self.linears += 1
        k, n = (self.program.buffers[buffer].channels for buffer in (source, output))
        weights = self.rng.integers(-127, 128, (n, k)).astype(np.int8)
        weights[self.rng.random((n, k)) < 0.5] = 0
        packed, coding = pack_linear(weights, weight_format), ColumnCoding.LIST
        if self.compact:
            packed["columns"], coding = code_columns(packed, weight_format, k)
        per_token = params != ABSENT
        sums = weights.astype(np.int64).sum(axis=1).astype(np.int32)
        signed = self.program.buffers[output].dtype is DType.S8
        self.add(
            Linear(
                name,
                input=source,
                params=params,
                residual=residual,
                output=output,
                rows=self.const(packed["rows"]),
                offsets=self.const(packed["offsets"]),
                columns=self.const(packed["columns"]),
                weights=self.const(packed["weights"]),
                scale=self.const(np.full(n, (0.02 if per_token else 3e-4) / k**0.5, np.float32)),
                bias=self.const(self.rng.normal(0, 0.1, n).astype(np.float32)),
                correction=self.const(sums if per_token else -ZERO_POINT * sums),
                k=k,
                n=n,
                groups=len(packed["offsets"]) - 1,
                format=weight_format,
                activation=activation,
                zero_point=0 if signed else ZERO_POINT,
                lo=-127 if signed else 0,
                hi=127 if signed else 255,
                inv_scale=50.0,
                column_coding=coding,
            )
        )

    # ---- constants

    def random_rows(self, rows: int) -> int:
        return self.const(self.rng.integers(-127, 128, (rows, HIDDEN)).astype(np.int8))

    def random_scales(self, rows: int) -> int:
        return self.const(self.rng.uniform(0.005, 0.01, rows).astype(np.float32))


def batch_of(lengths: Sequence[int], seed: int = 0, types: bool = True) -> PackedBatch:
    """Random sequences of these lengths."""
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    return PackedBatch(
        starts=starts_of(lengths),
        token_types=rng.integers(0, TYPES, tokens).astype(np.int32) if types else None,
        ids=rng.integers(0, VOCABULARY, tokens).astype(np.int32),
        positions=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
    )


def split(batch: PackedBatch) -> List[PackedBatch]:
    """Each sequence of the batch as a batch of its own."""
    parts = []
    for begin, end in zip(batch.starts, batch.starts[1:]):
        tokens = slice(begin, end)
        types = None if batch.token_types is None else batch.token_types[tokens]
        starts = np.array([0, end - begin])
        parts.append(PackedBatch(starts, batch.ids[tokens], batch.positions[tokens], types))
    return parts
