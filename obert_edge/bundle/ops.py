"""The ops of a compiled graph and their enums.

Generated from ``bundle/schema.py`` by ``tools/dev/generate_ops.py``, with its C++ twin: edit the schema.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Dict, Mapping, Tuple, Type

#: Stands where an optional buffer or constant is left out.
ABSENT = -1
#: Tokens in a full panel of activations.
PANEL_TOKENS = 64
#: Tokens by which the last, narrower panel grows.
PANEL_STEP = 16
#: Marks a packed row that is no output channel.
PAD_ROW = 0xFFFFFFFF
#: Input channels of a linear at most: columns are stored as U16, and 255 * 127 * 65536 < 2^31.
MAX_COLUMNS = 65535
#: Channels of an INT4 row that share a scale.
INT4_GROUP = 32


class DType(enum.IntEnum):
    """Element type of an activation buffer."""

    U8 = 1  # quantized, with a zero point
    S8 = 2  # quantized, symmetric
    F32 = 3  # float32

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return _DTYPE_BYTES[self]


_DTYPE_BYTES = {
    DType.U8: 1,
    DType.S8: 1,
    DType.F32: 4,
}


class Domain(enum.IntEnum):
    """Whether a buffer holds one vector of channels per token or per sequence."""

    TOKENS = 0  # one per packed token of the batch
    SEQUENCES = 1  # one per sequence of the batch


class WeightFormat(enum.IntEnum):
    """How the weights of a linear op are packed (diagrams: ``bundle/packing.py``)."""

    ROW_GATHER_1 = 1  # single weights: one output row per group
    ROW_GATHER_2 = 2  # 2x1 blocks: two output rows share their columns
    ROW_GATHER_4 = 3  # 4x1 blocks: four output rows share their columns
    DENSE_4 = 4  # every column, four output rows at a time, no column list
    BLOCK_1X4 = 5  # blocks of four consecutive inputs of one output row

    @property
    def rows(self) -> int:
        """R: output rows of a group, which are computed together."""
        return _WEIGHT_FORMAT_ROWS[self]

    @property
    def block(self) -> int:
        """Consecutive input columns that one number of the column list stands for."""
        return _WEIGHT_FORMAT_BLOCK[self]

    @property
    def is_sparse(self) -> bool:
        """Whether zeros are left out and columns listed."""
        return _WEIGHT_FORMAT_IS_SPARSE[self]


_WEIGHT_FORMAT_ROWS = {
    WeightFormat.ROW_GATHER_1: 1,
    WeightFormat.ROW_GATHER_2: 2,
    WeightFormat.ROW_GATHER_4: 4,
    WeightFormat.DENSE_4: 4,
    WeightFormat.BLOCK_1X4: 1,
}
_WEIGHT_FORMAT_BLOCK = {
    WeightFormat.ROW_GATHER_1: 1,
    WeightFormat.ROW_GATHER_2: 1,
    WeightFormat.ROW_GATHER_4: 1,
    WeightFormat.DENSE_4: 1,
    WeightFormat.BLOCK_1X4: 4,
}
_WEIGHT_FORMAT_IS_SPARSE = {
    WeightFormat.ROW_GATHER_1: True,
    WeightFormat.ROW_GATHER_2: True,
    WeightFormat.ROW_GATHER_4: True,
    WeightFormat.DENSE_4: False,
    WeightFormat.BLOCK_1X4: True,
}


class RowFormat(enum.IntEnum):
    """How the rows of the word-embedding table are stored (see ``bundle/rows.py``)."""

    INT8 = 0  # S8[channels], one scale per row
    INT4 = 1  # two values a byte, in groups of 32 channels with a scale each


class ColumnCoding(enum.IntEnum):
    """How a bundle stores which input columns a sparse format keeps (see ``bundle/packing.py``)."""

    LIST = 0  # numbers, U16
    MASKS = 1  # one bit for each column or block of every group


class Activation(enum.IntEnum):
    """Element-wise function in the epilogue of a linear op."""

    NONE = 0  # the identity
    GELU = 1  # exact: x * Phi(x)
    GELU_TANH = 2  # the tanh approximation
    RELU = 3  # max(x, 0)
    TANH = 4  # tanh(x)
    SILU = 5  # x * sigmoid(x)

    @property
    def reader(self) -> int:
        """The bundle format whose readers know it."""
        return _ACTIVATION_READER[self]


_ACTIVATION_READER = {
    Activation.NONE: 1,
    Activation.GELU: 1,
    Activation.GELU_TANH: 1,
    Activation.RELU: 1,
    Activation.TANH: 1,
    Activation.SILU: 3,
}


class NormKind(enum.IntEnum):
    """What a LayerNorm does to a token before it is multiplied by gamma."""

    LAYER = 0  # takes the mean away and divides by the deviation
    RMS = 1  # divides by the root of the mean square
    NONE = 2  # nothing (MobileBERT's NoNorm)


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


@dataclass(frozen=True)
class Embed(Op):
    """Sum of the word, position and (optional) token-type rows, dequantized.

    Args:
        name: of the op in messages and profiles.
        output: F32[channels] over tokens.
        word: S8[vocabulary, channels], or INT4 rows as ``word_format`` says; or ABSENT.
        word_scale: F32, one scale per row; or ABSENT.
        position: S8[positions, channels]; or ABSENT.
        position_scale: F32, one scale per row; or ABSENT.
        token_type: S8[token_types, channels]; or ABSENT.
        token_type_scale: F32, one scale per row; or ABSENT.
        vocabulary: rows of the word table; 0: there is none.
        positions: rows of the position table; 0: there is none.
        token_types: rows of the token-type table; 0: there is none.
        channels: of the buffers.
        word_group_scale: S8[vocabulary, groups]: INT4 rows alone; multiplies the row's scale; or ABSENT.
        word_format: how the word rows are stored.
        neighbors: 1: the channels are the word rows of the token after, of the token, and of the one before
            it, each of ``channels / 3``; 0: they are a sum.
    """

    output: int
    word: int
    word_scale: int
    position: int
    position_scale: int
    token_type: int
    token_type_scale: int
    vocabulary: int
    positions: int
    token_types: int
    channels: int
    word_group_scale: int = ABSENT
    word_format: int = RowFormat.INT8
    neighbors: int = 0

    KIND = 1
    OUTPUTS = ("output",)
    CONSTS = (
        "word",
        "word_scale",
        "position",
        "position_scale",
        "token_type",
        "token_type_scale",
        "word_group_scale",
    )
    INTS = ("vocabulary", "positions", "token_types", "channels", "word_format", "neighbors")
    OPTIONAL = (
        "word",
        "word_scale",
        "position",
        "position_scale",
        "token_type",
        "token_type_scale",
        "word_group_scale",
    )
    FIELD_READERS: ClassVar[Mapping[str, int]] = {"word_format": 2, "neighbors": 3}


@dataclass(frozen=True)
class LayerNorm(Op):
    """LayerNorm over channels; writes float, quantized, or both at once.

    ``quantized`` is ``clamp(rne(y * inv_scale) + zero_point, 0, 255)`` of the float result ``y``.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels].
        output: F32[channels]; may be the input buffer; or ABSENT.
        quantized: U8[channels]; or ABSENT.
        gamma: F32[channels].
        beta: F32[channels].
        channels: of the buffers.
        zero_point: zero point of the 8-bit output.
        epsilon: added to the variance.
        inv_scale: 1 / scale of the 8-bit output.
        kind: what is normalized.
    """

    input: int
    output: int
    quantized: int
    gamma: int
    beta: int
    channels: int
    zero_point: int
    epsilon: float
    inv_scale: float
    kind: int = NormKind.LAYER

    KIND = 2
    INPUTS = ("input",)
    OUTPUTS = ("output", "quantized")
    CONSTS = ("gamma", "beta")
    INTS = ("channels", "zero_point", "kind")
    FLOATS = ("epsilon", "inv_scale")
    OPTIONAL = ("output", "quantized")
    FIELD_READERS: ClassVar[Mapping[str, int]] = {"kind": 3}


@dataclass(frozen=True)
class Quantize(Op):
    """F32[channels] to U8[channels] with a static scale and zero point.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels].
        output: U8[channels].
        channels: of the buffers.
        zero_point: zero point of the 8-bit output.
        inv_scale: 1 / scale of the 8-bit output.
    """

    input: int
    output: int
    channels: int
    zero_point: int
    inv_scale: float

    KIND = 3
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels", "zero_point")
    FLOATS = ("inv_scale",)


@dataclass(frozen=True)
class QuantizeDynamic(Op):
    """F32[channels] to U8[channels] with one scale and zero point per token.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels].
        output: U8[channels].
        params: F32[2]: channel 0 the scale, channel 1 the zero point (a whole number).
        channels: of the buffers.
    """

    input: int
    output: int
    params: int
    channels: int

    KIND = 4
    INPUTS = ("input",)
    OUTPUTS = ("output", "params")
    INTS = ("channels",)


@dataclass(frozen=True)
class Linear(Op):
    """``y = activation(x W^T + b) (+ residual)`` on U8 activations and S8 weights.

    Args:
        name: of the op in messages and profiles.
        input: U8[k].
        params: F32[2], of the op that quantized the input per token; or ABSENT.
        residual: F32[n]; a F32 output may be the same buffer; or ABSENT.
        output: F32, U8 or S8 [n].
        rows: U32[groups * R]: the output channel of each packed row, or PAD_ROW.
        offsets: U32[groups + 1]: the first quad or block of each group.
        columns: U16, or bits, as ``column_coding`` says; a dense format has none; or ABSENT.
        weights: S8, laid out as ``format`` says.
        scale: F32[n].
        bias: F32[n].
        correction: I32[n]: ``-zero_point * sum(w)`` for a static input, ``sum(w)`` for a per-token one.
        k: input channels.
        n: output channels.
        groups: groups of R packed rows.
        format: layout of the weights.
        activation: function of the epilogue.
        zero_point: zero point of the 8-bit output.
        lo: smallest value of an 8-bit output: 0 for U8, -127 for S8.
        hi: largest value of an 8-bit output: 255 for U8, 127 for S8.
        inv_scale: 1 / scale of the 8-bit output.
        column_coding: how ``columns`` is stored.
    """

    input: int
    params: int
    residual: int
    output: int
    rows: int
    offsets: int
    columns: int
    weights: int
    scale: int
    bias: int
    correction: int
    k: int
    n: int
    groups: int
    format: int
    activation: int
    zero_point: int
    lo: int
    hi: int
    inv_scale: float
    column_coding: int = ColumnCoding.LIST

    KIND = 5
    INPUTS = ("input", "params", "residual")
    OUTPUTS = ("output",)
    CONSTS = ("rows", "offsets", "columns", "weights", "scale", "bias", "correction")
    INTS = ("k", "n", "groups", "format", "activation", "zero_point", "lo", "hi", "column_coding")
    FLOATS = ("inv_scale",)
    OPTIONAL = ("params", "residual", "columns")
    FIELD_READERS: ClassVar[Mapping[str, int]] = {"column_coding": 2}


@dataclass(frozen=True)
class Attention(Op):
    """Multi-head self-attention within each sequence, in INT8.

    Args:
        name: of the op in messages and profiles.
        query: U8[heads * head_dim].
        key: S8[heads * head_dim].
        value: S8[heads * head_dim].
        output: U8 or F32 [heads * head_dim].
        heads: number of heads.
        head_dim: channels of one head.
        query_zero_point: zero point of the query.
        zero_point: zero point of the 8-bit output.
        score_scale: ``s_q * s_k / sqrt(head_dim) * log2(e)``.
        context_scale: ``s_v * inv_scale`` for a U8 output, ``s_v`` for a F32 one.
        bias: F32[heads, 2 * distances - 1]: added to a score, by how far the key is behind the query, times
            ``log2(e)``; or ABSENT.
        row_of_distance: U16[2 * distances - 1]: the row of the position tables, by how far the key is behind
            the query; or ABSENT.
        position_key: S8[heads, head_dim / 4, positions, 4]: what queries are multiplied with; or ABSENT.
        position_query: S8[heads, head_dim / 4, positions, 4]: what keys are multiplied with; or ABSENT.
        position_key_scale: F32[heads, positions]: of a row's products with queries, as ``score_scale``; or
            ABSENT.
        position_query_scale: F32[heads, positions]: of a row's products with keys, as ``score_scale``; or
            ABSENT.
        distances: D: the bias of key j to query i is number ``min(max(j - i, 1 - D), D - 1) + D - 1`` of its
            head, and its row of the position tables likewise; 0: there is neither.
        window: keys more than so many tokens from the query do not count; 0: all do. There is no bias then.
        positions: rows of the position tables; 0: there are none. There is neither bias nor window else.
    """

    query: int
    key: int
    value: int
    output: int
    heads: int
    head_dim: int
    query_zero_point: int
    zero_point: int
    score_scale: float
    context_scale: float
    bias: int = ABSENT
    row_of_distance: int = ABSENT
    position_key: int = ABSENT
    position_query: int = ABSENT
    position_key_scale: int = ABSENT
    position_query_scale: int = ABSENT
    distances: int = 0
    window: int = 0
    positions: int = 0

    KIND = 6
    INPUTS = ("query", "key", "value")
    OUTPUTS = ("output",)
    CONSTS = (
        "bias",
        "row_of_distance",
        "position_key",
        "position_query",
        "position_key_scale",
        "position_query_scale",
    )
    INTS = ("heads", "head_dim", "query_zero_point", "zero_point", "distances", "window", "positions")
    FLOATS = ("score_scale", "context_scale")
    OPTIONAL = (
        "bias",
        "row_of_distance",
        "position_key",
        "position_query",
        "position_key_scale",
        "position_query_scale",
    )
    FIELD_READERS: ClassVar[Mapping[str, int]] = {
        "bias": 3,
        "row_of_distance": 3,
        "position_key": 3,
        "position_query": 3,
        "position_key_scale": 3,
        "position_query_scale": 3,
        "distances": 3,
        "window": 3,
        "positions": 3,
    }


@dataclass(frozen=True)
class SelectFirst(Op):
    """The first token of each sequence.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels] over tokens.
        output: F32[channels] over sequences.
        channels: of the buffers.
    """

    input: int
    output: int
    channels: int

    KIND = 7
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels",)


@dataclass(frozen=True)
class MeanPool(Op):
    """The mean over each sequence's tokens.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels] over tokens.
        output: F32[channels] over sequences.
        channels: of the buffers.
    """

    input: int
    output: int
    channels: int

    KIND = 8
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    INTS = ("channels",)


@dataclass(frozen=True)
class Output(Op):
    """A result of the model, written row-major ``[tokens or sequences, channels]``.

    Outputs are numbered by their order in the program.

    Args:
        name: of the op in messages and profiles.
        input: F32[channels].
        channels: of the buffers.
    """

    input: int
    channels: int

    KIND = 9
    INPUTS = ("input",)
    INTS = ("channels",)


@dataclass(frozen=True)
class Rotate(Op):
    """Turns pairs of channels of each head by angles that grow with the token's position.

    The pair of channel ``d`` is ``d + head_dim / 2`` (rotary position embeddings).

    Args:
        name: of the op in messages and profiles.
        input: F32[heads * head_dim].
        output: U8 or S8 [heads * head_dim].
        cosine: F32[positions, head_dim / 2].
        sine: F32[positions, head_dim / 2].
        heads: number of heads.
        head_dim: channels of one head; even.
        positions: rows of the tables.
        zero_point: zero point of the 8-bit output.
        lo: smallest value of the output: 0 for U8, -127 for S8.
        hi: largest value of the output: 255 for U8, 127 for S8.
        inv_scale: 1 / scale of the 8-bit output.
    """

    input: int
    output: int
    cosine: int
    sine: int
    heads: int
    head_dim: int
    positions: int
    zero_point: int
    lo: int
    hi: int
    inv_scale: float

    KIND = 10
    INPUTS = ("input",)
    OUTPUTS = ("output",)
    CONSTS = ("cosine", "sine")
    INTS = ("heads", "head_dim", "positions", "zero_point", "lo", "hi")
    FLOATS = ("inv_scale",)
    READER = 3


@dataclass(frozen=True)
class Multiply(Op):
    """The product of two values, channel by channel: a gated unit.

    Args:
        name: of the op in messages and profiles.
        left: F32[channels].
        right: F32[channels].
        output: U8 or F32 [channels].
        channels: of the buffers.
        zero_point: zero point of the 8-bit output.
        inv_scale: 1 / scale of the 8-bit output.
    """

    left: int
    right: int
    output: int
    channels: int
    zero_point: int
    inv_scale: float

    KIND = 11
    INPUTS = ("left", "right")
    OUTPUTS = ("output",)
    INTS = ("channels", "zero_point")
    FLOATS = ("inv_scale",)
    READER = 3


#: Number of a kind of op -> its class.
OP_TYPES: Dict[int, Type[Op]] = {
    op.KIND: op
    for op in (
        Embed,
        LayerNorm,
        Quantize,
        QuantizeDynamic,
        Linear,
        Attention,
        SelectFirst,
        MeanPool,
        Output,
        Rotate,
        Multiply,
    )
}
