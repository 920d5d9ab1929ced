import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Pattern

SIDES = st.sampled_from([1, 2, 4, 8])


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("unstructured", Pattern()),
        ("1x1", Pattern()),
        ("4x1", Pattern(rows=4)),
        (" 2X1 ", Pattern(rows=2)),
        ("1x4", Pattern(columns=4)),
        ("8x1", Pattern(rows=8)),
        ("2:4", Pattern(keep=2, of=4)),
    ],
)
def test_reads_what_users_write(text, pattern):
    assert Pattern.parse(text) == pattern
    assert Pattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "4", "x4", "0x4", "4x0", "4x1x1", "-1x4", "4:4", "0:4", "5:4", "block4"]
)
def test_refuses_other_texts_and_says_what_is_accepted(text):
    with pytest.raises(UsageError) as error:
        Pattern.parse(text)
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "shape", "fix"),
    [
        ("4x1", (6, 8), '"2x1"'),
        ("1x4", (8, 6), '"1x2"'),
        ("8x1", (12, 8), '"4x1"'),
        ("4x1", (5, 8), '"unstructured"'),
        ("5x3", (64, 64), '"unstructured"'),
        ("4x3", (64, 64), '"4x1"'),
        ("2:4", (8, 6), "unstructured"),
    ],
)
def test_names_the_tensor_its_shape_and_a_fix_when_a_block_does_not_divide(text, shape, fix):
    with pytest.raises(UsageError) as error:
        Pattern.parse(text).check("encoder.layer.0.output.dense", shape)
    assert "encoder.layer.0.output.dense" in error.value.message
    assert f"[{shape[0]}, {shape[1]}]" in error.value.message
    assert fix in error.value.hint


def test_a_pattern_applies_to_matrices_only():
    with pytest.raises(UsageError):
        Pattern.parse("4x1").check("bias", (8,))


@given(rows=SIDES, columns=SIDES, seed=st.integers(0, 999))
def test_grouping_sums_each_block_and_expanding_spreads_it(rows, columns, seed):
    pattern = Pattern(rows=rows, columns=columns)
    values = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    groups = pattern.group(values)
    assert groups.shape == (16 // rows, 24 // columns)
    for i in range(groups.shape[0]):
        for j in range(groups.shape[1]):
            block = values[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            assert torch.isclose(groups[i, j], block.sum())
    spread = pattern.expand(groups)
    assert spread.shape == values.shape
    assert torch.allclose(pattern.group(spread), groups * pattern.size)


@given(
    keep_of=st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8)]),
    values=st.lists(st.integers(0, 3), min_size=64, max_size=64),
)
def test_n_of_m_lets_go_of_the_lowest_and_always_keeps_n(keep_of, values):
    keep, of = keep_of
    scores = torch.tensor(values, dtype=torch.float32).reshape(4, 16)
    allowed = Pattern(keep=keep, of=of).removable(scores).reshape(4, -1, of)
    cells = scores.reshape(4, -1, of)
    assert (allowed.sum(dim=-1) == of - keep).all()
    highest_removed = cells.masked_fill(~allowed, -1).amax(dim=-1)
    lowest_kept = cells.masked_fill(allowed, 99).amin(dim=-1)
    assert (highest_removed <= lowest_kept).all()


def test_knows_whether_zeros_have_the_pattern():
    weight = torch.ones(8, 8)
    weight[4:8, 3] = 0
    assert Pattern.parse("4x1").holds(weight)
    assert Pattern.parse("2x1").holds(weight)
    assert not Pattern.parse("1x4").holds(weight)
    assert not Pattern.parse("8x1").holds(weight)
    assert not Pattern.parse("2:4").holds(weight)
    weight[:, ::2] = 0
    weight[4:8, 3] = 1
    assert Pattern.parse("2:4").holds(weight)
