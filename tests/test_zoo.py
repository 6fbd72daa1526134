"""The truth of the zoo is checked by hand-written permutations, without the tracer."""

import copy

import pytest
import torch

from tests.reference_permute import Named
from tests.zoo import ZOO, Entry
from tests.zoo.axes import AXES

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


def _error(entry: Entry, named: Named, names: set[str]) -> float:
    """Relative change of the output when the named spaces are permuted."""
    model, args, kwargs = entry.build_random()
    other = copy.deepcopy(model)
    other.load_state_dict(named.permute(model.state_dict(), names))
    with torch.no_grad():
        before, after = model(*args, **kwargs), other(*args, **kwargs)
    if not isinstance(before, torch.Tensor):
        before, after = before[0], after[0]
    return ((after - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("name", AXES)
def test_truth_leaves_the_output_unchanged(name):
    named, entry = AXES[name], ZOO[name]
    assert named.hidden == entry.hidden
    assert set(named.axes) <= set(entry.build()[0].state_dict())
    assert _error(entry, named, set(named.sizes)) < entry.tolerance


@pytest.mark.parametrize(
    ("name", "block", "size"),
    [
        ("attention_sdpa", "head*qk", 15),
        ("attention_sdpa", "head*vo", 12),
        ("gqa_expand", "kv*query", 6),
        ("group_norm", "h*d", 10),
        ("depthwise_multiplier", "c*m", 12),
        ("pyg_gat", "head*d", 14),
        ("lstm", "4*h", 48),
    ],
)
def test_a_block_is_not_one_space(name, block, size):
    axes = {tensor: axis.replace(block, "flat") for tensor, axis in AXES[name].axes.items()}
    named = Named(f"{AXES[name].spaces} flat={size}", axes)
    assert _error(ZOO[name], named, {"flat"}) > 1e-3


@pytest.mark.parametrize(
    ("name", "extra", "axes"),
    [
        ("hf_llama", "qk=6", {"q_proj": "kv*query*qk model", "k_proj": "kv*qk model"}),
        ("ordered_by_cumsum", "a=12", {"first": "a", "second.weight": ". a"}),
        ("mixer", "place=6", {"tokens.0.weight": "token place", "tokens.2.weight": "place token"}),
        ("experts_listed", "expert=3", {"gate.weight": "expert", "gate.bias": "expert"}),
    ],
)
def test_what_the_truth_pins_cannot_move(name, extra, axes):
    names = ZOO[name].build()[0].state_dict()
    full = {tensor: axis for key, axis in axes.items() for tensor in names if key in tensor}
    spaces = AXES[name].spaces if name in AXES else ""
    named = Named(f"{spaces} {extra}", full)
    assert _error(ZOO[name], named, {extra.split("=")[0]}) > 1e-3


@pytest.mark.parametrize("name", ZOO)
def test_entries_are_reproducible_and_small(name):
    state = torch.get_rng_state()
    first, args, _ = ZOO[name].build()
    second, again, _ = ZOO[name].build()
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(p.numel() for p in first.parameters()) < 6000
    assert set(ZOO[name].pinned) <= {parameter for parameter, _ in first.named_parameters()}
    torch.testing.assert_close(args, again, rtol=0, atol=0)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
