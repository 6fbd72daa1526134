import pytest
import torch

from ngopt.features.blocks import FEW
from ngopt.features.entries import Scales, entry_features
from ngopt.features.survey import Survey
from ngopt.rules.layers import entry_head
from ngopt.rules.layers.entry_head import EntryHead
from tests.features.random_edges import SHAPE, random_edges
from tests.rules.rule_inputs import randomize

GROUP, OUT, IN, _ = SHAPE
WIDTH, CONTEXT, HIDDEN = 6, 3, 5


@pytest.fixture(autouse=True, params=[FEW, 0], ids=["at once", "unit by unit"])
def few(request, monkeypatch):
    """Number of entries up to which a feature axis is stacked."""
    monkeypatch.setattr(entry_head, "FEW", request.param)


def fresh():
    return EntryHead(HIDDEN, WIDTH, CONTEXT, torch.Generator().manual_seed(0))


def inputs(dtype=torch.float64):
    edges = random_edges(dtype=dtype)
    base = torch.randn(SHAPE, dtype=dtype)
    entries = entry_features(edges, base, Scales.of(Survey.of(edges), base.square().mean()))
    shapes = [(CONTEXT,), (GROUP, OUT, WIDTH), (GROUP, IN, WIDTH)]
    return entries, *(torch.randn(shape, dtype=dtype) for shape in shapes)


def stacked(head, entries, context, out_state, in_state):
    """The same with a feature axis."""
    w = {name: p.to(context.dtype) for name, p in head.named_parameters()}
    hidden = torch.stack(list(entries), -1) @ w["entry.weight"]
    hidden = hidden + context @ w["context.weight"] + w["context.bias"]
    hidden = hidden + (out_state @ w["out_neuron.weight"])[:, :, None, None]
    hidden = hidden + (in_state @ w["in_neuron.weight"])[:, None, :, None]
    return (hidden.relu() @ w["output.weight"]).squeeze(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_stacked_form(dtype):
    head, given = randomize(fresh()), inputs(dtype)
    result = head(*given)
    assert result.shape == SHAPE
    assert result.dtype == dtype
    torch.testing.assert_close(result, stacked(head, *given))


def test_works_without_neurons():
    head, (entries, context, out_state, in_state) = randomize(fresh()), inputs()
    expected = stacked(head, entries, context, 0 * out_state, 0 * in_state)
    torch.testing.assert_close(head(entries, context), expected)


def test_fresh_head_is_silent_but_can_learn():
    head, given = fresh(), inputs(torch.float32)
    result = head(*given)
    assert not result.any()
    (result * torch.randn(SHAPE)).sum().backward()
    assert head.output.weight.grad.any()


def test_fresh_head_does_not_listen_to_neurons():
    head, (entries, context, out_state, in_state) = fresh(), inputs(torch.float32)
    torch.nn.init.normal_(head.output.weight)
    result = head(entries, context, out_state, in_state)
    assert result.any()
    assert torch.equal(result, head(entries, context))
    (result * torch.randn(SHAPE)).sum().backward()
    assert head.out_neuron.weight.grad.any()
    assert head.in_neuron.weight.grad.any()
