import pytest
import torch

from ngopt.features.entry_features import Entries
from ngopt.rules.layers.entry_head import EntryHead, unit_by_unit
from tests.rules.rule_inputs import randomize

SHAPE = (1, 3, 2, 5, 4, 3)
"""Runs, members, group, out, in, tap."""

WIDTH, CONTEXT, HIDDEN = 6, 3, 5


def fresh():
    return EntryHead(HIDDEN, WIDTH, CONTEXT, torch.Generator().manual_seed(0))


def inputs(head, dtype=torch.float64):
    """Features of entries, and what hidden units hear of bundles and neurons."""
    features = torch.randn(*SHAPE, len(Entries._fields), dtype=dtype)
    context = head.context(torch.randn(*SHAPE[:2], 1, 1, 1, 1, CONTEXT, dtype=dtype))
    out = head.out_neuron(torch.randn(*SHAPE[:4], 1, 1, WIDTH, dtype=dtype))
    into = head.in_neuron(torch.randn(*SHAPE[:3], 1, SHAPE[4], 1, WIDTH, dtype=dtype))
    return features, [context, out, into]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hidden_layer(dtype):
    head = randomize(fresh())
    features, offsets = inputs(head, dtype)
    weights = [weight.to(dtype) for weight in (head.entry.weight, head.output.weight)]
    expected = (features @ weights[0] + sum(offsets)).relu() @ weights[1]
    found = head(features, offsets)
    assert found.shape == SHAPE
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.squeeze(-1))


def test_unit_by_unit_is_the_same():
    head = randomize(fresh())
    features, offsets = inputs(head)
    weights = [unit.unbind() for unit in head.entry.weight.double().unbind(1)]
    outputs = head.output.weight.double().squeeze(1).unbind()
    found = unit_by_unit(
        Entries(*features.unbind(-1)), weights, outputs, [o.unbind(-1) for o in offsets]
    )
    torch.testing.assert_close(found, head(features, offsets))


def test_fresh_head_is_silent_but_can_learn():
    head = fresh()
    result = head(*inputs(head, torch.float32))
    assert not result.any()
    (result * torch.randn(SHAPE)).sum().backward()
    assert head.output.weight.grad.any()


def test_fresh_head_does_not_listen_to_neurons():
    head = fresh()
    torch.nn.init.normal_(head.output.weight)
    features, offsets = inputs(head, torch.float32)
    result = head(features, offsets)
    assert result.any()
    assert torch.equal(result, head(features, offsets[:1]))
    (result * torch.randn(SHAPE)).sum().backward()
    assert head.out_neuron.weight.grad.any()
    assert head.in_neuron.weight.grad.any()
