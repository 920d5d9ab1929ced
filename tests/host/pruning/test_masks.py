import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from obert_edge.bundle.manifest import LinearFacts
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.architectures import ARCHITECTURES as KNOWN
from obert_edge.host.pruning import Masks, Pattern, prunable_linears
from obert_edge.host.pruning.masks import _lowest, check_sparsity, kept, select

from .models import ARCHITECTURES, make_bert

NONE = float("-inf")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_bundle_tells_them_by_their_names_as_well(architecture):
    """The sparsity that ``inspect`` shows is that of the linears which pruning counts."""
    model = ARCHITECTURES[architecture]()
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    facts = [LinearFacts(name, 1, 1, 0.0, "DENSE_4", 1, 1.0, 1.0, True) for name in names]
    assert {fact.name for fact in facts if fact.in_layer} == set(prunable_linears(model))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exactly_the_linears_of_every_encoder_block_are_prunable(architecture):
    model = ARCHITECTURES[architecture]()
    found = prunable_linears(model)
    shapes = [tuple(module.weight.shape) for module in found.values()]
    layer = [(16, 16)] * 4 + [(32, 16), (16, 32)]
    if architecture == "modernbert":  # queries, keys and values in one matrix, and both halves of the unit
        layer = [(48, 16), (16, 16), (64, 16), (16, 32)]
    elif KNOWN[architecture].modules.gate:
        layer = [(16, 16)] * 4 + [(32, 16)] * 2 + [(16, 32)]
    if KNOWN[architecture].fields.key_heads:
        layer[1] = layer[2] = (8, 16)
    if KNOWN[architecture].bottleneck:  # 8 channels inside, two feed-forward parts
        layer = [(8, 16)] * 3 + [(8, 8)] * 3 + [(32, 8), (8, 32)] * 2 + [(16, 8)]
    assert sorted(shapes) == sorted(layer * 2)
    for name in found:
        assert not any(part in name for part in ("embedding", "pooler", "classifier"))


def test_a_bare_encoder_has_the_same_linears_without_the_prefix():
    names = [name.removeprefix("bert.") for name in prunable_linears(make_bert())]
    assert list(prunable_linears(make_bert().bert)) == names


def test_a_model_of_another_family_is_refused_by_name():
    with pytest.raises(UsageError, match="Sequential"):
        prunable_linears(torch.nn.Sequential(torch.nn.Linear(4, 4)))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), "0.5", True, None])
def test_sparsity_must_be_at_least_0_and_below_1(sparsity):
    with pytest.raises(UsageError):
        check_sparsity(sparsity, Pattern())


def test_sparsity_is_bounded_by_n_of_m():
    assert check_sparsity(0.5, Pattern.parse("2:4")) == 0.5
    with pytest.raises(UsageError, match="50"):
        check_sparsity(0.6, Pattern.parse("2:4"))


def test_zeros_of_a_checkpoint_are_its_masks():
    model = make_bert()
    name, module = next(iter(prunable_linears(model).items()))
    with torch.no_grad():
        module.weight[3, :5] = 0
    masks = Masks.from_weights(model)
    assert masks.pruned == 5
    assert masks.total == 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert masks.sparsity == 5 / masks.total
    assert not masks[name][3, :5].any()


def test_applying_masks_zeroes_what_is_pruned_and_nothing_else():
    model, reference = make_bert(), make_bert()
    masks = Masks.from_weights(model)
    name = next(iter(masks))
    every_other = masks[name].clone()
    every_other[::2] = False
    masks.replace(name, every_other)
    masks.apply(model)
    weight = dict(model.named_modules())[name].weight
    assert not weight[::2].any()
    assert not torch.signbit(weight[::2]).any()  # 0.0, never -0.0
    assert torch.equal(weight[1::2], dict(reference.named_modules())[name].weight[1::2])
    for key, value in model.state_dict().items():
        if key != f"{name}.weight":
            assert torch.equal(value, reference.state_dict()[key])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (4, 0)])
def test_a_mask_keeps_every_bit_or_leaves_zero(dtype, shape):
    special = [float("nan"), float("inf"), float("-inf"), -1.5, -0.0, 1e-40]
    values = torch.tensor(special * 2)[: torch.Size(shape).numel()].to(dtype).reshape(shape)
    mask = torch.arange(values.numel()).reshape(shape) % 2 == 0
    left = kept(values, mask)
    assert left.dtype == dtype
    assert left[~mask].view(torch.uint8).sum() == 0  # 0.0, never -0.0 or NaN
    assert torch.equal(left[mask].view(torch.uint8), values[mask].view(torch.uint8))


def test_a_mask_of_a_transposed_gradient_is_not_turned_round():
    values, mask = torch.randn(4, 3).T, torch.rand(3, 4) > 0.5
    assert torch.equal(kept(values, mask), values.masked_fill(~mask, 0.0))


def test_masks_of_another_model_are_refused():
    masks = Masks.from_weights(make_bert(intermediate_size=64))
    with pytest.raises(UsageError, match="intermediate"):
        masks.apply(make_bert())


@given(width=st.integers(1, 20), seed=st.integers(0, 99))
def test_masks_survive_a_file(tmp_path_factory, width, seed):
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    kept = torch.rand(5, width, generator=torch.Generator().manual_seed(seed)) < 0.5
    Masks({"a": kept, "b": ~kept}).save(path)
    loaded = Masks.load(path)
    assert list(loaded) == ["a", "b"]
    assert torch.equal(loaded["a"], kept)
    assert torch.equal(loaded["b"], ~kept)


def test_a_file_that_is_not_masks_is_refused(tmp_path):
    path = tmp_path / "masks.safetensors"
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(CheckpointError):
        Masks.load(path)
    with pytest.raises(CheckpointError):
        Masks.load(tmp_path / "missing.safetensors")


@given(
    scores=st.lists(st.sampled_from([NONE, 0.0, 1.0, 2.0, 3.0]), min_size=48, max_size=48),
    sparsity=st.floats(0, 0.999),
    scope=st.sampled_from(["global", "layer", "row"]),
)
def test_selection_is_exact_takes_the_lowest_and_the_first_of_equals(scores, sparsity, scope):
    flat = torch.tensor(scores)
    tensors = {"a": flat[:16].reshape(4, 4), "b": flat[16:].reshape(4, 8)}
    removed = select(tensors, pattern=Pattern(), sparsity=sparsity, scope=scope)
    if scope == "global":
        domains = [[(name, slice(None)) for name in tensors]]
    elif scope == "layer":
        domains = [[(name, slice(None))] for name in tensors]
    else:
        domains = [[(name, row)] for name in tensors for row in range(4)]
    for parts in domains:
        values = torch.cat([tensors[name][rows].flatten() for name, rows in parts]).tolist()
        gone = torch.cat([removed[name][rows].flatten() for name, rows in parts]).tolist()
        expected = sorted(range(len(values)), key=lambda i: (values[i], i))[
            : int(sparsity * len(values) + 0.5)
        ]
        assert [i for i, flag in enumerate(gone) if flag] == sorted(expected)


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=True), min_size=1, max_size=60),
    share=st.floats(0, 1),
)
def test_the_threshold_is_found_for_any_floats(values, share):
    count = int(share * len(values))
    chosen = _lowest(torch.tensor(values, dtype=torch.float32), count)
    expected = sorted(range(len(values)), key=lambda i: (values[i], i))[:count]
    assert chosen.nonzero().flatten().tolist() == sorted(expected)


def test_the_threshold_is_found_across_parts():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-50, 50, ((1 << 22) + 1000,), generator=generator).float()
    count = 1_234_567
    order = values.argsort(stable=True)[:count]
    assert torch.equal(_lowest(values, count).nonzero().flatten(), order.sort().values)


def test_global_scope_lets_layers_differ_and_layer_scope_does_not():
    scores = {"cheap": torch.zeros(4, 4), "dear": torch.ones(4, 4)}
    removed = select(scores, pattern=Pattern(), sparsity=0.5, scope="global")
    assert removed["cheap"].all()
    assert not removed["dear"].any()
    removed = select(scores, pattern=Pattern(), sparsity=0.5, scope="layer")
    assert removed["cheap"].sum() == removed["dear"].sum() == 8


def test_an_unknown_scope_is_refused():
    with pytest.raises(UsageError):
        select({"a": torch.zeros(2, 2)}, pattern=Pattern(), sparsity=0.5, scope="uniform")
