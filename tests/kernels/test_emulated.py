"""Kernels for other CPUs, under emulation of their cores: the bits of this machine's scalar kernels.

The checks are those of the other files of this folder, at shapes with every tail: panels of 1 to 4 units,
odd channels, rows in groups of 1, 2 and 4, sequences that begin and end anywhere. A core that lacks an
instruction ends the emulator with SIGILL, and the test with it.

ARM's cores are qemu's. An x86 core with AVX-VNNI is this one, with a library beside it that executes those
instructions (:mod:`tests.kernels.trap`).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Dict, Iterator, Tuple

import numpy as np
import pytest

from obert_edge.bundle.ops import (
    Activation,
    DType,
    Embed,
    MeanPool,
    NormKind,
    Output,
    SelectFirst,
    WeightFormat,
)
from obert_edge.bundle.program import ABSENT, Domain
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.targets import get_target, library_path
from tests.engine.models import EncoderBuilder, batch_of
from tests.kernels import (
    test_attention,
    test_embed,
    test_layer_norm,
    test_linear,
    test_pool,
    test_quantize,
    test_rotate,
)
from tests.kernels.emulation import ARM64, ARMHF, EmulatedLibrary
from tests.kernels.harness import ProgramBuilder, starts_of
from tests.kernels.linear_case import a_linear, check
from tests.kernels.trap import AVX_VNNI
from tools.emulation.debian import UnavailableError

#: qemu's name of a core (or Intel's of one with AVX-VNNI) -> the implementations it can run, best first.
CORES: Dict[str, Tuple[str, ...]] = {
    "cortex-a53": ("neon",),
    "cortex-a72": ("neon",),
    "cortex-a76": ("neondot", "neon"),
    "max": ("i8mm", "neondot", "neon"),
    "cortex-a7": ("neon",),
    "gracemont": ("avxvnni",),
}
#: The machine and the target of those that are no 64-bit ARM.
OTHERS = {"cortex-a7": (ARMHF, "armhf"), "gracemont": (AVX_VNNI, "x86")}
every_format = pytest.mark.parametrize("weight_format", list(WeightFormat), ids=lambda x: x.name)


@pytest.fixture(scope="module")
def driver_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(scope="module", params=CORES)
def emulated(
    request: pytest.FixtureRequest, driver_folder: Path, library: Library
) -> Iterator[EmulatedLibrary]:
    machine, target = OTHERS.get(request.param, (ARM64, "arm64"))
    try:
        command = machine.command(request.param, driver_folder)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    # The scalar kernels of an x86 core are this very machine's, and so may be others beside its own.
    names = CORES[request.param] if target == "x86" else (*CORES[request.param], "emulated scalar")
    found = EmulatedLibrary(
        library_path(get_target(target)), command, library, names if target == "x86" else None
    )
    assert found.implementations() == names
    yield found
    found.close()


@pytest.mark.parametrize("emulated", ["cortex-a7"], indirect=True)
def test_a_batch_beyond_32_bits_of_addresses_is_refused(emulated: EmulatedLibrary) -> None:
    """4 GiB of one buffer: a product of 32 bits would be 0."""
    tokens, channels = 256, 2**22
    builder = ProgramBuilder()
    hidden = builder.buffer(DType.F32, channels)
    first = builder.buffer(DType.F32, channels, Domain.SEQUENCES)
    words = {
        "word": builder.const(np.ones((1, channels), np.int8)),
        "word_scale": builder.const(np.ones(1, np.float32)),
    }
    none = {"position": ABSENT, "position_scale": ABSENT, "token_type": ABSENT, "token_type_scale": ABSENT}
    sizes = {"vocabulary": 1, "positions": 0, "token_types": 0, "channels": channels}
    builder.add(Embed("embed", output=hidden, **words, **none, **sizes))
    builder.add(SelectFirst("first", hidden, first, channels))
    builder.add(Output("output", first, channels))
    at = np.arange(tokens, dtype=np.int32)
    batch = PackedBatch(starts_of([tokens]), np.zeros(tokens, np.int32), at, None)
    model = emulated.open(builder.program.to_bytes(), builder.weights, implementation="neon")
    with model, pytest.raises(AssertionError, match="no memory for the 4563402752 bytes this batch of 256"):
        model.run(batch)


def test_crc32_of_every_length_where_there_are_instructions_for_it(
    request: pytest.FixtureRequest, emulated: EmulatedLibrary
) -> None:
    data = bytes(range(256))
    core = request.node.callspec.params["emulated"]
    for length in range(64) if core != "cortex-a7" else ():
        assert emulated.crc32(data[:length]) == zlib.crc32(data[:length])
    if core == "cortex-a7":
        assert emulated.crc32(data) is None


@every_format
def test_linears_of_every_width(emulated: EmulatedLibrary, weight_format: WeightFormat) -> None:
    for tokens in (1, 16, 17, 33, 63, 64, 65, 130):
        linear = a_linear(weight_format).over(tokens=tokens).after(Activation.GELU)
        check(emulated, linear.into(DType.U8))
        check(emulated, linear.into(DType.F32).with_residual(in_place=tokens % 2 == 0))


@every_format
def test_linears_of_every_size(emulated: EmulatedLibrary, weight_format: WeightFormat) -> None:
    for n, k in [(1, 4), (2, 8), (3, 12), (5, 16), (7, 20), (33, 100), (130, 64), (9, 772)]:
        check(emulated, a_linear(weight_format).sized(n=n, k=k).over(tokens=70).into(DType.S8))
    for k in (1, 2, 3, 5, 13) if weight_format is not WeightFormat.BLOCK_1X4 else ():
        check(emulated, a_linear(weight_format).sized(n=6, k=k).over(tokens=20))
    for density in (0.0, 0.02, 1.0):
        check(emulated, a_linear(weight_format).sized(n=40, k=64).over(tokens=50).keeping(density))


@pytest.mark.parametrize(
    "weight_format",
    [WeightFormat.BLOCK_1X4, WeightFormat.ROW_GATHER_2, WeightFormat.ROW_GATHER_4],  # 1, 2 and 4 rows
    ids=lambda x: x.name,
)
def test_every_epilogue_of_linears(emulated: EmulatedLibrary, weight_format: WeightFormat) -> None:
    for out in DType:
        for activation in Activation:
            linear = a_linear(weight_format).after(activation).into(out)
            check(emulated, linear)
            check(emulated, linear.of_dynamic_input())
            check(emulated, linear.of_dynamic_input().with_residual())
    check(emulated, a_linear(weight_format).over_sequences(19))


@every_format
def test_panels_of_every_width_with_the_epilogues_that_have_code_of_their_own(
    emulated: EmulatedLibrary, weight_format: WeightFormat
) -> None:
    for epilogue in test_linear.EPILOGUES.values():
        for tokens in (16, 32, 48, 64):
            linear = a_linear(weight_format).sized(n=24, k=52).over(tokens=tokens)
            check(emulated, epilogue(linear), threads=(1,))
            check(emulated, epilogue(linear.with_scattered_rows()), threads=(1,))
            # The quads of a group are more than wait for a second pass.
            long = linear.sized(n=8, k=1100).keeping(1.0)
            check(emulated, epilogue(long), threads=(1,))


@pytest.mark.parametrize("activation", [255, 0])
@pytest.mark.parametrize("weight", [127, -127])
@every_format
def test_linear_sums_are_exact_at_the_extremes(
    emulated: EmulatedLibrary, weight_format: WeightFormat, weight: int, activation: int
) -> None:
    test_linear.test_sums_are_exact_at_the_extremes(emulated, weight_format, weight, activation)


@every_format
def test_lanes_of_padding_alone(emulated: EmulatedLibrary, weight_format: WeightFormat) -> None:
    for tokens in (1, 7, 8, 9, 24, 25, 72):
        test_linear.test_lanes_of_padding_alone(emulated, weight_format, tokens)


@every_format
def test_many_tasks_of_a_panel(emulated: EmulatedLibrary, weight_format: WeightFormat) -> None:
    for tokens in (16, 80):
        test_linear.test_many_tasks_of_a_panel(emulated, weight_format, tokens)


def test_attention_of_every_length(emulated: EmulatedLibrary) -> None:
    for length in (1, 2, 3, 15, 16, 17, 63, 64, 65, 130):
        test_attention.check(emulated, [length], heads=1)
    for lengths in ([5, 60, 3], [63, 2, 65, 1], [1] * 20):
        test_attention.check(emulated, lengths, out=DType.F32)


def test_attention_with_biases(emulated: EmulatedLibrary) -> None:
    for length in (1, 3, 15, 16, 17, 64, 65, 130):
        test_attention.check(emulated, [length], heads=2, distances=20)
    for lengths in ([5, 60, 3], [63, 2, 65, 1], [1] * 20):
        test_attention.check(emulated, lengths, out=DType.F32, distances=9)
    for sharpness in (1e-6, 30.0, 3000.0):
        test_attention.check(emulated, [70], heads=1, sharpness=sharpness, out=DType.F32, distances=64)


def test_attention_with_positions(emulated: EmulatedLibrary) -> None:
    for length in (1, 3, 15, 16, 17, 64, 65, 130):
        test_attention.check(emulated, [length], heads=2, positions=50, distances=100)
    for lengths in ([5, 60, 3], [63, 2, 65, 1], [1] * 20):
        test_attention.check(emulated, lengths, out=DType.F32, positions=40, distances=30)
    for head_dim in (4, 12, 36):
        test_attention.check(emulated, [41, 7], head_dim=head_dim, positions=80, distances=41)
    for zero_point in (0, 255):
        test_attention.check(emulated, [30], query_zero_point=zero_point, positions=9, distances=5)
    for sharpness in (1e-6, 3000.0):
        test_attention.check(
            emulated, [70], heads=1, sharpness=sharpness, out=DType.F32, positions=99, distances=70
        )
    test_attention.test_positions_of_the_largest_bytes(emulated)


def test_attention_with_windows(emulated: EmulatedLibrary) -> None:
    for length in (1, 17, 64, 130, 200):
        test_attention.check(emulated, [length], heads=2, window=20)
    for lengths in ([5, 60, 3], [63, 2, 65, 1], [1] * 20):
        test_attention.check(emulated, lengths, out=DType.F32, window=5)
    for sharpness in (1e-6, 3000.0):
        test_attention.check(emulated, [70], heads=1, sharpness=sharpness, out=DType.F32, window=9)


def test_rotation_and_product(emulated: EmulatedLibrary) -> None:
    for heads, head_dim in ((1, 2), (3, 6), (2, 64)):
        test_rotate.check_rotation(emulated, heads, head_dim, [5, 30, 4], signed=heads == 3)
    for channels, tokens in ((1, 1), (5, 17), (64, 65)):
        test_rotate.check_product(emulated, channels, tokens, DType.U8)
        test_rotate.check_product(emulated, channels, tokens, DType.F32)


def test_attention_of_every_head_size(emulated: EmulatedLibrary) -> None:
    for head_dim in (1, 2, 6, 16, 26, 32, 64, 80):
        test_attention.check(emulated, [41, 7], heads=2, head_dim=head_dim)
    for zero_point in (0, 255):
        test_attention.check(emulated, [30], query_zero_point=zero_point)
    for sharpness in (1e-6, 30.0, 3000.0):
        test_attention.check(emulated, [130], heads=1, sharpness=sharpness, out=DType.F32)
    for what in test_attention.DENORMALS:
        test_attention.test_numbers_too_small_for_a_normal_float(emulated, what)


@pytest.mark.parametrize("channels, tokens", [(1, 17), (2, 1), (5, 64), (127, 65), (312, 50)])
def test_layer_norm_of_odd_shapes(emulated: EmulatedLibrary, channels: int, tokens: int) -> None:
    test_layer_norm.check(emulated, channels, tokens, quantized=channels > 1)
    test_layer_norm.check(emulated, channels, tokens, quantized=channels > 1, in_place=True)
    test_layer_norm.check(emulated, channels, tokens, kind=NormKind.RMS)
    test_layer_norm.check(emulated, channels, tokens, kind=NormKind.NONE)


def test_quantization(emulated: EmulatedLibrary) -> None:
    for channels, tokens in ((1, 1), (4, 17), (64, 65), (313, 48)):
        test_quantize.test_static(emulated, channels, tokens, 120)
        test_quantize.test_dynamic(emulated, channels, tokens, -5.0)
    test_quantize.test_ties_round_to_even(emulated)
    test_quantize.test_what_is_no_number_has_its_place(emulated)
    test_quantize.test_dynamic_of_what_is_no_number(emulated)
    test_quantize.test_dynamic_of_zeros_is_zero(emulated)


@pytest.mark.parametrize("types", [0, 2])
def test_embedding(emulated: EmulatedLibrary, types: int) -> None:
    for channels in (1, 3, 50, 128):
        for lengths in ([1], [5, 30, 4], [65]):
            test_embed.test_int8_word_rows(emulated, channels, lengths, types)
            test_embed.test_int4_word_rows(emulated, channels, lengths, types)
            test_embed.test_rows_of_the_tokens_beside_each(emulated, channels, lengths, bool(types))
            test_embed.test_rows_of_positions_without_those_of_words(emulated, lengths, types)


def test_pooling(emulated: EmulatedLibrary) -> None:
    for op in (MeanPool, SelectFirst):
        test_pool.test_pool(emulated, op, [63, 2, 70, 17], 5)


def test_a_whole_encoder(emulated: EmulatedLibrary) -> None:
    encoder, batch = EncoderBuilder(layers=2, compact=True), batch_of([70, 5, 33])
    blobs = encoder.program.to_bytes(), encoder.weights
    with emulated.open(*blobs, implementation="scalar") as model:
        expected = model.run(batch)
    for name in emulated.implementations():
        for cache in (0, 2800):  # tiles of 440 bytes
            with emulated.open(*blobs, threads=3, implementation=name, cache=cache) as model:
                for found, reference in zip(model.run(batch), expected):
                    assert found.tobytes() == reference.tobytes(), (name, cache)


def test_an_instruction_set_the_core_lacks_is_refused(emulated: EmulatedLibrary) -> None:
    if emulated.implementations()[0] != "neon":
        pytest.skip("this core has it, or is none of ARM's")
    with pytest.raises(
        AssertionError, match="'neondot' cannot run here; this CPU and library can run: neon,scalar"
    ):
        emulated.open(b"", b"", implementation="neondot")
