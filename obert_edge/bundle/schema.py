"""The op schema: the one table that says what a compiled graph holds, for Python and for C++.

``tools/dev/generate_ops.py`` writes three files from it, which are committed and never edited by hand:

* ``obert_edge/bundle/ops.py``: the enums and one frozen dataclass per op, for the compiler and the device;
* ``obert_edge/engine/program/enums.h``: the enums and constants, for the engine and its kernels;
* ``obert_edge/engine/program/ops.h``: kinds of ops, and one struct of named fields per op, for the engine.

A record of the op table has a fixed number of places for inputs, outputs, constants, ints and floats
(:data:`RECORD`). A field's place is its position in the row below, so a new field goes to the **end** of its
list: files that exist keep their meaning. What each op computes, bit for bit, is in
``docs/reference/numerics.md``; how to add an op or a weight format is in ``docs/adding/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple, Union


@dataclass(frozen=True)
class Constant:
    """A number that Python and C++ share.

    Args:
        name: as Python spells it.
        cpp: type and name in C++.
        value: the number.
        doc: what it means.
    """

    name: str
    cpp: str
    value: int
    doc: str


@dataclass(frozen=True)
class Member:
    """One value of an enum.

    Args:
        name: as Python spells it; C++ spells ``ROW_GATHER_1`` ``RowGather1``.
        number: as it is stored.
        doc: what it means.
        facts: a value for each of the enum's :class:`Fact`.
    """

    name: str
    number: int
    doc: str
    facts: Tuple[Union[int, bool], ...] = ()


@dataclass(frozen=True)
class Fact:
    """Something that is known of every member of an enum: a property in Python, an array in C++.

    Args:
        name: of the property.
        cpp: of the array, which is indexed by the member's number.
        type: ``"int"`` or ``"bool"``.
        doc: what it says.
    """

    name: str
    cpp: str
    type: str
    doc: str


@dataclass(frozen=True)
class Enum:
    """Numbers with names.

    Args:
        name: as Python spells it.
        cpp: as C++ spells it.
        doc: what they tell apart.
        members: in the order of their numbers, which have no holes.
        facts: what is known of each.
    """

    name: str
    cpp: str
    doc: str
    members: Tuple[Member, ...]
    facts: Tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Field:
    """One field of an op.

    Args:
        name: of the field.
        doc: what it means: dtype and shape of a buffer or a constant, units of a number.
        optional: it may be :data:`ABSENT` (buffers and constants only).
        enum: the enum an int belongs to.
        default: as Python writes it, for fields that older graphs are without: what those mean.
        reader: the version of the bundle format whose readers understand a value other than the default.
    """

    name: str
    doc: str
    optional: bool = False
    enum: str = ""
    default: Optional[str] = None
    reader: int = 1


@dataclass(frozen=True)
class OpRow:
    """One kind of op.

    Args:
        name: of the dataclass; the C++ names are made of it.
        kind: its number in a record.
        doc: what it does; the first paragraph is one line.
        inputs: buffers it reads.
        outputs: buffers it writes.
        consts: constants of the weights blob.
        ints: whole numbers.
        floats: float32 numbers.
        reader: the version of the bundle format whose readers know the op.
    """

    name: str
    kind: int
    doc: str
    inputs: Tuple[Field, ...] = ()
    outputs: Tuple[Field, ...] = ()
    consts: Tuple[Field, ...] = ()
    ints: Tuple[Field, ...] = ()
    floats: Tuple[Field, ...] = ()
    reader: int = 1

    @property
    def fields(self) -> Tuple[Field, ...]:
        """All fields, in the order of a record."""
        return self.inputs + self.outputs + self.consts + self.ints + self.floats


#: Places of one record: how many inputs, outputs, constants, ints and floats, and bytes of the name.
RECORD: Mapping[str, int] = {"inputs": 4, "outputs": 4, "consts": 12, "ints": 12, "floats": 8, "name": 64}

CONSTANTS = (
    Constant("ABSENT", "int32_t kAbsent", -1, "Stands where an optional buffer or constant is left out."),
    Constant("PANEL_TOKENS", "int32_t kPanel", 64, "Tokens in a full panel of activations."),
    Constant("PANEL_STEP", "int32_t kStep", 16, "Tokens by which the last, narrower panel grows."),
    Constant("PAD_ROW", "uint32_t kPadRow", 0xFFFFFFFF, "Marks a packed row that is no output channel."),
    Constant(
        "MAX_COLUMNS",
        "int32_t kMaxInputChannels",
        65535,
        "Input channels of a linear at most: columns are stored as U16, and 255 * 127 * 65536 < 2^31.",
    ),
    Constant("INT4_GROUP", "int32_t kInt4Group", 32, "Channels of an INT4 row that share a scale."),
)

ENUMS = (
    Enum(
        "DType",
        "DType",
        "Element type of an activation buffer.",
        (
            Member("U8", 1, "quantized, with a zero point", (1,)),
            Member("S8", 2, "quantized, symmetric", (1,)),
            Member("F32", 3, "float32", (4,)),
        ),
        (Fact("bytes", "kDTypeBytes", "int", "Bytes of one element."),),
    ),
    Enum(
        "Domain",
        "Domain",
        "Whether a buffer holds one vector of channels per token or per sequence.",
        (
            Member("TOKENS", 0, "one per packed token of the batch"),
            Member("SEQUENCES", 1, "one per sequence of the batch"),
        ),
    ),
    Enum(
        "WeightFormat",
        "Format",
        "How the weights of a linear op are packed (diagrams: ``bundle/packing.py``).",
        (
            Member("ROW_GATHER_1", 1, "single weights: one output row per group", (1, 1, True)),
            Member("ROW_GATHER_2", 2, "2x1 blocks: two output rows share their columns", (2, 1, True)),
            Member("ROW_GATHER_4", 3, "4x1 blocks: four output rows share their columns", (4, 1, True)),
            Member("DENSE_4", 4, "every column, four output rows at a time, no column list", (4, 1, False)),
            Member("BLOCK_1X4", 5, "blocks of four consecutive inputs of one output row", (1, 4, True)),
        ),
        (
            Fact("rows", "kFormatRows", "int", "R: output rows of a group, which are computed together."),
            Fact(
                "block",
                "kFormatBlock",
                "int",
                "Consecutive input columns that one number of the column list stands for.",
            ),
            Fact("is_sparse", "kFormatIsSparse", "bool", "Whether zeros are left out and columns listed."),
        ),
    ),
    Enum(
        "RowFormat",
        "RowFormat",
        "How the rows of the word-embedding table are stored (see ``bundle/rows.py``).",
        (
            Member("INT8", 0, "S8[channels], one scale per row"),
            Member("INT4", 1, "two values a byte, in groups of 32 channels with a scale each"),
        ),
    ),
    Enum(
        "ColumnCoding",
        "ColumnCoding",
        "How a bundle stores which input columns a sparse format keeps (see ``bundle/packing.py``).",
        (
            Member("LIST", 0, "numbers, U16"),
            Member("MASKS", 1, "one bit for each column or block of every group"),
        ),
    ),
    Enum(
        "Activation",
        "Activation",
        "Element-wise function in the epilogue of a linear op.",
        (
            Member("NONE", 0, "the identity", (1,)),
            Member("GELU", 1, "exact: x * Phi(x)", (1,)),
            Member("GELU_TANH", 2, "the tanh approximation", (1,)),
            Member("RELU", 3, "max(x, 0)", (1,)),
            Member("TANH", 4, "tanh(x)", (1,)),
            Member("SILU", 5, "x * sigmoid(x)", (3,)),
        ),
        (
            Fact(
                "reader",
                "kActivationReader",
                "int",
                "The bundle format whose readers know it.",
            ),
        ),
    ),
    Enum(
        "NormKind",
        "NormKind",
        "What a LayerNorm does to a token before it is multiplied by gamma.",
        (
            Member("LAYER", 0, "takes the mean away and divides by the deviation"),
            Member("RMS", 1, "divides by the root of the mean square"),
            Member("NONE", 2, "nothing (MobileBERT's NoNorm)"),
        ),
    ),
)

_CHANNELS = Field("channels", "of the buffers")
_TABLE_SCALE = "F32, one scale per row"
_F32_TOKENS = "F32[channels] over tokens"
_F32_SEQUENCES = "F32[channels] over sequences"
_ZERO_POINT = "zero point of the 8-bit output"
_INV_SCALE = "1 / scale of the 8-bit output"

OPS = (
    OpRow(
        "Embed",
        1,
        "Sum of the word, position and (optional) token-type rows, dequantized.",
        outputs=(Field("output", _F32_TOKENS),),
        consts=(
            Field("word", "S8[vocabulary, channels], or INT4 rows as ``word_format`` says", optional=True),
            Field("word_scale", _TABLE_SCALE, optional=True),
            Field("position", "S8[positions, channels]", optional=True),
            Field("position_scale", _TABLE_SCALE, optional=True),
            Field("token_type", "S8[token_types, channels]", optional=True),
            Field("token_type_scale", _TABLE_SCALE, optional=True),
            Field(
                "word_group_scale",
                "S8[vocabulary, groups]: INT4 rows alone; multiplies the row's scale",
                optional=True,
                default="ABSENT",
            ),
        ),
        ints=(
            Field("vocabulary", "rows of the word table; 0: there is none"),
            Field("positions", "rows of the position table; 0: there is none"),
            Field("token_types", "rows of the token-type table; 0: there is none"),
            _CHANNELS,
            Field(
                "word_format",
                "how the word rows are stored",
                enum="RowFormat",
                default="RowFormat.INT8",
                reader=2,
            ),
            Field(
                "neighbors",
                "1: the channels are the word rows of the token after, of the token, and of the one before "
                "it, each of ``channels / 3``; 0: they are a sum",
                default="0",
                reader=3,
            ),
        ),
    ),
    OpRow(
        "LayerNorm",
        2,
        "LayerNorm over channels; writes float, quantized, or both at once.\n\n"
        "``quantized`` is ``clamp(rne(y * inv_scale) + zero_point, 0, 255)`` of the float result ``y``.",
        inputs=(Field("input", "F32[channels]"),),
        outputs=(
            Field("output", "F32[channels]; may be the input buffer", optional=True),
            Field("quantized", "U8[channels]", optional=True),
        ),
        consts=(Field("gamma", "F32[channels]"), Field("beta", "F32[channels]")),
        ints=(
            _CHANNELS,
            Field("zero_point", _ZERO_POINT),
            Field("kind", "what is normalized", enum="NormKind", default="NormKind.LAYER", reader=3),
        ),
        floats=(Field("epsilon", "added to the variance"), Field("inv_scale", _INV_SCALE)),
    ),
    OpRow(
        "Quantize",
        3,
        "F32[channels] to U8[channels] with a static scale and zero point.",
        inputs=(Field("input", "F32[channels]"),),
        outputs=(Field("output", "U8[channels]"),),
        ints=(_CHANNELS, Field("zero_point", _ZERO_POINT)),
        floats=(Field("inv_scale", _INV_SCALE),),
    ),
    OpRow(
        "QuantizeDynamic",
        4,
        "F32[channels] to U8[channels] with one scale and zero point per token.",
        inputs=(Field("input", "F32[channels]"),),
        outputs=(
            Field("output", "U8[channels]"),
            Field("params", "F32[2]: channel 0 the scale, channel 1 the zero point (a whole number)"),
        ),
        ints=(_CHANNELS,),
    ),
    OpRow(
        "Linear",
        5,
        "``y = activation(x W^T + b) (+ residual)`` on U8 activations and S8 weights.",
        inputs=(
            Field("input", "U8[k]"),
            Field("params", "F32[2], of the op that quantized the input per token", optional=True),
            Field("residual", "F32[n]; a F32 output may be the same buffer", optional=True),
        ),
        outputs=(Field("output", "F32, U8 or S8 [n]"),),
        consts=(
            Field("rows", "U32[groups * R]: the output channel of each packed row, or PAD_ROW"),
            Field("offsets", "U32[groups + 1]: the first quad or block of each group"),
            Field(
                "columns", "U16, or bits, as ``column_coding`` says; a dense format has none", optional=True
            ),
            Field("weights", "S8, laid out as ``format`` says"),
            Field("scale", "F32[n]"),
            Field("bias", "F32[n]"),
            Field(
                "correction",
                "I32[n]: ``-zero_point * sum(w)`` for a static input, ``sum(w)`` for a per-token one",
            ),
        ),
        ints=(
            Field("k", "input channels"),
            Field("n", "output channels"),
            Field("groups", "groups of R packed rows"),
            Field("format", "layout of the weights", enum="WeightFormat"),
            Field("activation", "function of the epilogue", enum="Activation"),
            Field("zero_point", _ZERO_POINT),
            Field("lo", "smallest value of an 8-bit output: 0 for U8, -127 for S8"),
            Field("hi", "largest value of an 8-bit output: 255 for U8, 127 for S8"),
            Field(
                "column_coding",
                "how ``columns`` is stored",
                enum="ColumnCoding",
                default="ColumnCoding.LIST",
                reader=2,
            ),
        ),
        floats=(Field("inv_scale", _INV_SCALE),),
    ),
    OpRow(
        "Attention",
        6,
        "Multi-head self-attention within each sequence, in INT8.",
        inputs=(
            Field("query", "U8[heads * head_dim]"),
            Field("key", "S8[heads * head_dim]"),
            Field("value", "S8[heads * head_dim]"),
        ),
        outputs=(Field("output", "U8 or F32 [heads * head_dim]"),),
        consts=(
            Field(
                "bias",
                "F32[heads, 2 * distances - 1]: added to a score, by how far the key is behind the query, "
                "times ``log2(e)``",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
            Field(
                "row_of_distance",
                "U16[2 * distances - 1]: the row of the position tables, by how far the key is behind the "
                "query",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
            Field(
                "position_key",
                "S8[heads, head_dim / 4, positions, 4]: what queries are multiplied with",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
            Field(
                "position_query",
                "S8[heads, head_dim / 4, positions, 4]: what keys are multiplied with",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
            Field(
                "position_key_scale",
                "F32[heads, positions]: of a row's products with queries, as ``score_scale``",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
            Field(
                "position_query_scale",
                "F32[heads, positions]: of a row's products with keys, as ``score_scale``",
                optional=True,
                default="ABSENT",
                reader=3,
            ),
        ),
        ints=(
            Field("heads", "number of heads"),
            Field("head_dim", "channels of one head"),
            Field("query_zero_point", "zero point of the query"),
            Field("zero_point", _ZERO_POINT),
            Field(
                "distances",
                "D: the bias of key j to query i is number ``min(max(j - i, 1 - D), D - 1) + D - 1`` of its "
                "head, and its row of the position tables likewise; 0: there is neither",
                default="0",
                reader=3,
            ),
            Field(
                "window",
                "keys more than so many tokens from the query do not count; 0: all do. There is no bias then",
                default="0",
                reader=3,
            ),
            Field(
                "positions",
                "rows of the position tables; 0: there are none. There is neither bias nor window else",
                default="0",
                reader=3,
            ),
        ),
        floats=(
            Field("score_scale", "``s_q * s_k / sqrt(head_dim) * log2(e)``"),
            Field("context_scale", "``s_v * inv_scale`` for a U8 output, ``s_v`` for a F32 one"),
        ),
    ),
    OpRow(
        "SelectFirst",
        7,
        "The first token of each sequence.",
        inputs=(Field("input", _F32_TOKENS),),
        outputs=(Field("output", _F32_SEQUENCES),),
        ints=(_CHANNELS,),
    ),
    OpRow(
        "MeanPool",
        8,
        "The mean over each sequence's tokens.",
        inputs=(Field("input", _F32_TOKENS),),
        outputs=(Field("output", _F32_SEQUENCES),),
        ints=(_CHANNELS,),
    ),
    OpRow(
        "Output",
        9,
        "A result of the model, written row-major ``[tokens or sequences, channels]``.\n\n"
        "Outputs are numbered by their order in the program.",
        inputs=(Field("input", "F32[channels]"),),
        ints=(_CHANNELS,),
    ),
    OpRow(
        "Rotate",
        10,
        "Turns pairs of channels of each head by angles that grow with the token's position.\n\n"
        "The pair of channel ``d`` is ``d + head_dim / 2`` (rotary position embeddings).",
        inputs=(Field("input", "F32[heads * head_dim]"),),
        outputs=(Field("output", "U8 or S8 [heads * head_dim]"),),
        consts=(
            Field("cosine", "F32[positions, head_dim / 2]"),
            Field("sine", "F32[positions, head_dim / 2]"),
        ),
        ints=(
            Field("heads", "number of heads"),
            Field("head_dim", "channels of one head; even"),
            Field("positions", "rows of the tables"),
            Field("zero_point", _ZERO_POINT),
            Field("lo", "smallest value of the output: 0 for U8, -127 for S8"),
            Field("hi", "largest value of the output: 255 for U8, 127 for S8"),
        ),
        floats=(Field("inv_scale", _INV_SCALE),),
        reader=3,
    ),
    OpRow(
        "Multiply",
        11,
        "The product of two values, channel by channel: a gated unit.",
        inputs=(Field("left", "F32[channels]"), Field("right", "F32[channels]")),
        outputs=(Field("output", "U8 or F32 [channels]"),),
        ints=(_CHANNELS, Field("zero_point", _ZERO_POINT)),
        floats=(Field("inv_scale", _INV_SCALE),),
        reader=3,
    ),
)
