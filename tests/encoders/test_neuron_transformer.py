"""The transformer of neurons: order means nothing, wiring does."""

import pytest
import torch
from torch import nn

import ngopt
from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.neuron_transformer import NeuronTransformer
from ngopt.errors import EncoderError
from tests.encoders.recurrent_networks import batch, permuted, speakers

SMALL = {"width": 5, "token": 8, "layers": 2, "heads": 2}


def convnets(count=3):
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2)
    )
    graph = ngopt.trace(model, torch.zeros(1, 2, 5, 5))
    return Stack(
        graph,
        {n: torch.randn(count, *p.shape).double() for n, p in model.named_parameters()},
        model,
    )


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("networks", [speakers, convnets])
def test_permuted_networks_have_the_same_encoding(networks, edges):
    stack = networks()
    encoder = NeuronTransformer(stack, **SMALL, edges=edges).double()
    one, other = encoder(batch(stack)), encoder(batch(permuted(stack)))
    assert one.shape == (3, 5)
    assert (one - other).abs().max() < 1e-10
    assert (one[0] - one[1]).abs().max() > 1e-4


def test_encodings_do_not_depend_on_the_rest_of_the_batch():
    stack = speakers(count=4)
    encoder = NeuronTransformer(stack, **SMALL).double()
    together = encoder(batch(stack, stack.select(slice(1))))
    alone = encoder(batch(stack.select(torch.tensor([2]))))
    assert (together[2] - alone[0]).abs().max() < 1e-12
    assert (together[0] - together[4]).abs().max() < 1e-12


def test_edges_tell_networks_apart_that_have_the_same_weights_at_each_neuron():
    stack = speakers()
    # All neurons of the first layer are alike but for the weights that leave them.
    for name, tensor in stack.parameters.items():
        if name.endswith("_l0"):
            tensor[:] = tensor[:, :1]
    stack.parameters["core.weight_hh_l0"][:] = 0.3
    leaves = stack.parameters["core.weight_ih_l1"]
    leaves[:] = leaves[:, :, :1] * torch.tensor([1.0, -1.0, 1.0, -1.0])
    swapped = leaves.clone()
    swapped[:, :4] = leaves[:, :4] * -1
    other = dict(stack.parameters)
    other["core.weight_ih_l1"] = swapped
    encoder = NeuronTransformer(stack, **SMALL).double()
    difference = encoder(batch(stack)) - encoder(batch(Stack(stack.graph, other, stack.model)))
    assert difference.abs().max() > 1e-6


def test_a_change_of_any_parameter_shows():
    stack = speakers()
    encoder = NeuronTransformer(stack, **SMALL).double()
    before = encoder(batch(stack))
    for name, tensor in stack.parameters.items():
        changed = {**stack.parameters, name: tensor.roll(1, -1)}
        after = encoder(batch(Stack(stack.graph, changed, stack.model)))
        assert (after - before).abs().max() > 1e-6, name


def test_every_weight_learns():
    stack = speakers()
    encoder = NeuronTransformer(stack, **SMALL).double()
    encoder(batch(stack)).square().sum().backward()
    still = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert not still


def test_dropout_is_for_training():
    stack = speakers()
    encoder = NeuronTransformer(stack, **SMALL, dropout=0.5).double()
    assert not torch.equal(encoder(batch(stack)), encoder(batch(stack)))
    encoder.eval()
    assert torch.equal(encoder(batch(stack)), encoder(batch(stack)))


def test_a_file_gives_the_same_encoder(tmp_path):
    stack = speakers(dtype=torch.float32)
    encoder = NeuronTransformer(stack, **SMALL, edges=False, seed=2)
    save_encoder(encoder, tmp_path / "transformer.safetensors")
    again = load_encoder(tmp_path / "transformer.safetensors")
    assert again.config == encoder.config
    assert torch.equal(again(batch(stack)), encoder(batch(stack)))


def test_weights_come_from_the_seed_and_leave_random_numbers_alone():
    graph, before = speakers().graph, torch.get_rng_state()
    before = torch.get_rng_state()
    one, other = (NeuronTransformer(graph, **SMALL, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    same = NeuronTransformer(graph, **SMALL)
    assert all(torch.equal(t, same.state_dict()[n]) for n, t in one.state_dict().items())
    assert not torch.equal(one.read_out.layers[0].weight, other.read_out.layers[0].weight)


def test_other_networks_are_refused():
    stack = speakers()
    encoder = NeuronTransformer(stack, **SMALL)
    with pytest.raises(EncoderError, match="another architecture"):
        encoder(batch(speakers(hidden=5)))
    with pytest.raises(EncoderError, match="no networks"):
        encoder(Networks(()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": 9}, "multiple of heads"),
        ({"layers": 0}, "layers=0"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(EncoderError, match=message):
        NeuronTransformer(speakers(), **{**SMALL, **options})
