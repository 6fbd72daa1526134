"""The one-pass encoder: against loops over neurons, invariant, and blind to its neighbours."""

import copy
import math

import pytest
import torch

from ngopt.encoders.encoder import Encoder
from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Networks
from ngopt.encoders.one_pass import OnePass
from ngopt.errors import EncoderError
from ngopt.features.bundle_features import structure
from ngopt.graph.permute import random_permutations
from tests.encoders.small_networks import NETWORKS, convnet, permuted, siren
from tests.hand_built import EXAMPLES, tensors_of

every_kind = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def encoder(example=None, **options) -> Encoder:
    return OnePass(example, 8, waves=4, **options).double()


def error(found, expected):
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


def stacked(example):
    model, described, _ = EXAMPLES[example]()
    parameters = {n: t for n, t in tensors_of(model.double()).items() if n in described.parameters}
    return Networks.stacked(described, {n: t[None] for n, t in parameters.items()})


@every_kind
def test_hidden_neurons_can_be_permuted(make):
    (stack,) = make()
    reader = encoder()
    expected = reader(Networks((stack,)))
    assert error(reader(Networks((permuted(stack),))), expected) <= 1e-10
    assert error(expected[1:], expected[:-1]) > 1e-3


@pytest.mark.parametrize("example", EXAMPLES)
def test_neurons_of_groups_heads_and_embeddings_can_be_permuted(example):
    (stack,) = stacked(example)
    reader = encoder()
    expected = reader(Networks((stack,)))
    assert expected.shape == (1, 8)
    assert error(reader(Networks((permuted(stack, 3),))), expected) <= 1e-10


@pytest.mark.parametrize("name", ["one.weight", "two.weight", "two.bias", "three.weight"])
def test_what_is_permuted_must_be_permuted_everywhere(name):
    (stack,) = siren()
    moved = dict(permuted(stack).parameters)
    moved[name] = stack.parameters[name]
    reader = encoder()
    expected = reader(Networks((stack,)))
    assert error(reader(Networks.stacked(stack.graph, moved)), expected) > 1e-4


def test_states_move_with_the_neurons():
    (stack,) = convnet(1)
    reader = encoder()
    permutations = random_permutations(stack.graph, 5)
    (here,) = reader.neurons(Networks((stack,)))
    (there,) = reader.neurons(Networks((permuted(stack, 5),)))
    assert here.keys() == there.keys() == stack.graph.spaces.keys()
    assert len(permutations) == 2
    for space, before in here.items():
        if space in permutations:
            before = before[:, permutations[space]]
        assert error(there[space], before) <= 1e-10


def test_networks_do_not_depend_on_those_beside_them():
    parts = [make(2) for make in NETWORKS.values()]
    order = torch.randperm(6)
    together = Networks(tuple(stack for part in parts for stack in part), order)
    reader = encoder()
    found = reader(together)[order]
    for number, part in enumerate(parts):
        for n in range(2):
            alone = reader(Networks((part.stacks[0].select(slice(n, n + 1)),)))
            assert error(found[2 * number + n], alone[0]) <= 1e-12


def tap_factor(part, k, count):
    """Factor of tap `k` of 3 x 3, or of a single one."""
    if count == 1:
        return 1
    place = torch.tensor([k % 3 - 1.0, k // 3 - 1.0], dtype=torch.float64)
    angles = place[:, None] * math.pi * 2.0 ** torch.arange(6)
    waves = torch.cat([angles.sin(), angles.cos()], 1).flatten()
    return (1 + part.taps(waves)) * count**-0.5


def by_loops(reader, stack):
    """States of all neurons of one plain network, one entry at a time."""
    net = {name: tensor[0] for name, tensor in stack.parameters.items()}
    sets, described = reader.plan(stack).sets, stack.graph
    start = [reader._start(stack, reader.plan(stack), n)[0] for n in range(len(sets))]
    numbers = {item.spaces[0]: n for n, item in enumerate(sets) if item.spaces}
    states = {}

    def gamma(x):
        angles = x * reader.frequencies[: reader.waves]
        return torch.cat([angles.sin(), angles.cos()])

    def about(name):
        (bundle,) = described.layouts[name].bundles
        size = math.log(float(net[name].square().mean().sqrt())) / 5
        numbers = [*structure(described, described.layouts[name], bundle), size]
        return torch.tensor(numbers, dtype=torch.float64)

    def message(name, o, sources):
        part, told = reader.readers[0 if sources is not None else 1], about(name)
        entries = net[name] / net[name].square().mean().sqrt()
        rows = entries[o].reshape(1 if sources is None else len(sources), -1)
        total = 0
        for i, row in enumerate(rows):
            read = part.entries_about(told)
            for k, entry in enumerate(row):
                read = read + part.entries(gamma(entry)) * tap_factor(part, k, len(row))
            given = part.source_about(told)
            total = total + read * (given if sources is None else given + part.source(sources[i]))
        return total * len(rows) ** -0.5

    def update(space, names, read):
        number = numbers[space]
        before = states.get(number, torch.zeros_like(start[number]))
        rows = []
        for o, state in enumerate(before):
            known = start[number][o]
            for name, source in zip(names, read, strict=True):
                if source is None:
                    known = known + message(name, o, None)
                else:
                    n = numbers[source]
                    state = state + message(name, o, states.get(n, start[n]))
            rows.append(reader.norm(reader.gates(known, state)))
        states[number] = torch.stack(rows)

    return update, states


def test_against_loops_over_neurons_and_entries():
    (stack,) = convnet(1)
    reader = encoder()
    update, states = by_loops(reader, stack)
    layer = {name: x.bundles[0].spaces() for name, x in stack.graph.layouts.items()}
    x, stream = layer["stem.weight"][1], layer["stem.weight"][0]
    inner, y = layer["inner.weight"][0], layer["head.weight"][0]
    update(stream, ["stem.weight", "stem.bias"], [x, None])
    update(inner, ["inner.weight", "inner.bias"], [stream, None])
    update(inner, ["norm.weight", "norm.bias"], [None, None])
    update(stream, ["back.weight", "back.bias"], [inner, None])
    update(y, ["head.weight", "head.bias"], [stream, None])
    (found,) = reader.neurons(Networks((stack,)))
    assert len(states) == 3
    for number, expected in states.items():
        (space,) = reader.plan(stack).sets[number].spaces
        assert error(found[space][0], expected) <= 1e-10


def test_parameters_can_have_weights_of_their_own():
    (stack,) = siren()
    reader = encoder(stack, own_weights=True)
    expected = reader(Networks((stack,)))
    assert error(reader(Networks((permuted(stack),))), expected) <= 1e-10
    before = reader.neurons(Networks((stack,)))[0]
    with torch.no_grad():
        reader.readers[list(stack.graph.parameters).index("two.weight")].entries.weight.add_(1)
    after = reader.neurons(Networks((stack,)))[0]
    changed = {space for space in after if error(after[space], before[space]) > 1e-6}
    assert changed == set(stack.graph.layouts["two.bias"].bundles[0].spaces())


@pytest.mark.parametrize("options", [{"positions": ()}, {"activations": False}])
def test_what_the_graph_tells_can_be_hidden(options):
    (stack,) = siren()
    shown, hidden = encoder()(Networks((stack,))), encoder(**options)(Networks((stack,)))
    assert error(hidden, shown) > 1e-4


def test_networks_of_other_activation_functions_are_told_apart():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)]
    one, other = (
        torch.nn.Sequential(layers[0], f, layers[1]) for f in (torch.nn.Tanh(), torch.nn.ReLU())
    )
    networks = Networks.from_modules([one, other], torch.randn(2, 3))
    found, blind = OnePass(None, 8)(networks), OnePass(None, 8, activations=False)(networks)
    assert error(found[1], found[0]) > 1e-4
    assert torch.equal(blind[0], blind[1])


def test_networks_of_zeros_are_read():
    (stack,) = siren()
    zeros = {name: torch.zeros_like(t).requires_grad_() for name, t in stack.parameters.items()}
    reader = encoder()
    found = reader(Networks.stacked(stack.graph, zeros))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in reader.parameters())
    assert all(tensor.grad.isfinite().all() for tensor in zeros.values())


def test_saved_and_loaded(tmp_path):
    (stack,) = siren()
    reader = OnePass(stack, 8, waves=4, own_weights=True, positions=["depth"], seed=3)
    for parameter in reader.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    save_encoder(reader, tmp_path / "reader.safetensors")
    back = load_encoder(tmp_path / "reader.safetensors")
    networks = Networks((stack,)).to(torch.float32)
    assert back.config == reader.config
    assert torch.equal(back(networks), reader(networks))


def test_a_copy_knows_its_graphs_only():
    (stack,), (other,) = siren(), convnet()
    reader = encoder()
    expected = reader(Networks((stack, other)))
    copied = copy.deepcopy(reader)
    # As if the graph of the one had been freed, and that of the other stood in its place.
    copied.plans = {
        (id(other.graph), device): kept
        for (number, device), kept in copied.plans.items()
        if number == id(stack.graph)
    }
    assert torch.equal(copied(Networks((stack, other))), expected)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = OnePass(None, 8, seed=1), OnePass(None, 8, seed=1), OnePass(None, 8, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.start.weight, same.start.weight)
    assert torch.equal(one.frequencies, same.frequencies)
    assert not torch.equal(one.start.weight, other.start.weight)


def test_bad_arguments_are_refused():
    with pytest.raises(EncoderError, match="example"):
        OnePass(own_weights=True)
    with pytest.raises(EncoderError, match="waves"):
        OnePass(None, 8, waves=0)
    with pytest.raises(EncoderError, match="no networks"):
        OnePass(None, 8)(Networks(()))
