"""Running stacks of networks: as each module by itself, differentiable, and what cannot be run."""

import pytest
import torch
from torch import nn

from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.stack_outputs import outputs_of, responses_of
from ngopt.errors import EncoderError
from ngopt.graph.nodes import nodes_of
from tests.encoders.small_networks import (
    Recurrent,
    Siren,
    SkipConvNet,
    convnet,
    image_inputs,
    modules,
    permuted,
    siren,
    siren_inputs,
)

CASES = {"siren": (Siren, siren_inputs), "convnet": (SkipConvNet, image_inputs)}
every_case = pytest.mark.parametrize(("make", "inputs"), CASES.values(), ids=CASES)


@every_case
def test_outputs_are_those_of_each_module_alone(make, inputs):
    networks, x = modules(make, 3), inputs()
    (stack,) = Networks.from_modules(networks, x)
    found = outputs_of(stack, x)
    for module, output in zip(networks, found, strict=True):
        assert torch.allclose(output, module.eval()(x), rtol=1e-12, atol=1e-12)


@every_case
def test_outputs_beside_activations_are_the_same(make, inputs):
    x = inputs()
    (stack,) = Networks.from_modules(modules(make, 3), x)
    assert torch.allclose(responses_of(stack, x).outputs, outputs_of(stack, x), rtol=1e-12)


def test_activations_are_those_of_each_module_alone():
    networks, x = modules(SkipConvNet, 3), image_inputs()
    (stack,) = Networks.from_modules(networks, x)
    found = responses_of(stack, x).nodes
    sets = {item.size: n for n, item in enumerate(nodes_of(stack.graph).sets) if item.spaces}
    assert sorted(found) == sorted(sets.values())
    for n, module in enumerate(networks):
        kept = {}
        module.eval()
        module.norm.register_forward_hook(lambda *a, kept=kept: kept.__setitem__(6, a[-1].tanh()))
        module.head.register_forward_pre_hook(lambda _, a, kept=kept: kept.__setitem__(5, a[0]))
        kept[3], kept[2] = module(x), x.mean((2, 3))
        kept[6] = kept[6].mean((2, 3))
        for size, expected in kept.items():
            assert torch.allclose(found[sets[size]][n], expected.T, rtol=1e-12, atol=1e-12)


def test_a_single_output_is_an_activation_too():
    (stack,) = siren()
    x = siren_inputs()
    found = responses_of(stack, x)
    lone = [n for n, item in enumerate(nodes_of(stack.graph).sets) if item.fan_in == 7]
    assert torch.equal(found.nodes[lone[-1]], found.outputs.flatten(1).unsqueeze(1))


def test_activations_move_with_the_neurons():
    (stack,) = convnet(1)
    x = image_inputs()
    before, after = (responses_of(s, x).nodes for s in (stack, permuted(stack)))
    for n, item in enumerate(nodes_of(stack.graph).sets):
        if item.spaces:
            one, other = (nodes[n].sort(1).values for nodes in (before, after))
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def test_derivatives_reach_the_inputs():
    x = siren_inputs()[:2].requires_grad_()
    (stack,) = siren(2)

    def answers(x):
        found = responses_of(stack, x)
        return found.outputs, found.nodes[1], found.nodes[3]

    assert torch.autograd.gradcheck(answers, x)


def test_the_model_is_left_as_it_was():
    networks, x = modules(SkipConvNet, 2), image_inputs()
    networks[0].train().norm.eval()
    (stack,) = Networks.from_modules(networks, x)
    before = {name: tensor.clone() for name, tensor in stack.model.state_dict().items()}
    outputs_of(stack, x), responses_of(stack, x)
    assert stack.model.training
    assert not stack.model.norm.training
    after = stack.model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_what_cannot_be_run_is_refused():
    x = siren_inputs()
    (stack,) = siren(2)
    with pytest.raises(EncoderError, match="no model"):
        outputs_of(Stack(stack.graph, stack.parameters), x)
    with pytest.raises(EncoderError, match="probes of shape"):
        outputs_of(stack, x[:, :1])
    with pytest.raises(EncoderError, match="probes of shape"):
        responses_of(stack, x[:, :1])


def test_models_that_cannot_be_stacked_are_refused():
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    (stack,) = Networks.from_modules(modules(Recurrent, 2), x)
    with pytest.raises(EncoderError, match="vmap"):
        outputs_of(stack, x)


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        x = self.one(x)
        return self.two(x if x.sum() > 0 else x.tanh())


def test_models_that_depend_on_values_are_refused():
    (stack,) = Networks.from_modules(modules(Choosing, 2), siren_inputs())
    with pytest.raises(EncoderError, match="values of tensors"):
        outputs_of(stack, siren_inputs())


def test_statistics_of_norms_must_be_given():
    (stack,) = convnet(2)
    with pytest.raises(EncoderError, match="running_mean"):
        outputs_of(Stack(stack.graph, stack.parameters, stack.model), image_inputs())


def test_a_graph_of_another_model_is_refused():
    (stack,) = siren(2)
    x = siren_inputs()

    class Twice(Siren):
        def forward(self, x):
            return self.three(torch.sin(self.two(torch.sin(self.two(torch.sin(self.one(x)))))))

    with pytest.raises(EncoderError, match="not that of their model"):
        responses_of(Stack(stack.graph, stack.parameters, Twice(7).double()), x)
