import pytest
import torch
from torch import nn

import ngopt
from ngopt.encoders import NGGNN, NGT, Networks
from ngopt.encoders.batch import Batch
from ngopt.encoders.batch_graph import HIDDEN, INPUT, NO_NEURON, OUTPUT
from ngopt.errors import EncoderError
from ngopt.features.positions import Positions
from tests.encoders.nets import mixed, networks_of, permuted
from tests.rules.rule_inputs import randomize


def test_values_come_back_in_the_shape_of_the_parameters():
    networks = mixed()
    batch = Batch.of(networks, Positions())
    back = batch.parameters([values.unsqueeze(-1) for values in batch.values])
    for stack, found in zip(networks, back, strict=True):
        assert set(found) == set(stack.parameters)
        for name, tensor in stack.parameters.items():
            assert torch.equal(found[name].squeeze(-1), tensor)


def test_each_edge_joins_nodes_of_its_own_network():
    batch = Batch.of(mixed(), Positions())
    connectivity = batch.connectivity
    assert connectivity.networks == 12
    for edges in connectivity.edges:
        network = connectivity.bundle_network[edges.bundle]
        for numbers in edges.ends:
            assert torch.equal(
                connectivity.node_network[numbers], network.unsqueeze(1).expand_as(numbers)
            )


def test_roles_of_nodes():
    batch = Batch.of(networks_of("mlp", 1), Positions())
    counts = batch.graph.roles.bincount(minlength=4)
    assert counts[[HIDDEN, INPUT, OUTPUT]].tolist() == [12, 3, 2]
    assert counts[NO_NEURON] == 3  # where the biases come from
    assert batch.graph.places[batch.graph.roles == INPUT].tolist() == [0, 1, 2]


def test_values_are_scaled_by_kind_or_by_tensor():
    networks = networks_of("convnet", 50)
    for scale in ("kind", "tensor"):
        encoder = NGGNN(networks, scale=scale)
        encoder.fit_scale(networks)
        batch = Batch.of(networks, encoder.positions)
        values = encoder.scale(batch)
        rows = encoder.scale.rows(batch)
        for row in rows.unique():
            chosen = torch.cat(
                [
                    x[rows[edges.bundle] == row].flatten()
                    for x, edges in zip(values, batch.connectivity.edges, strict=True)
                ]
            )
            assert chosen.mean().abs() < 1e-6
            assert chosen.std(correction=0) == pytest.approx(1, rel=1e-6)


def test_the_scale_is_of_use_on_networks_of_any_size():
    networks = networks_of("mlp")
    encoder = randomize(NGGNN(networks, width=8))
    small = networks_of("mlp").stacks[0]
    small = Networks.stacked(small.graph, {n: t * 1e-3 for n, t in small.parameters.items()})
    before = encoder(small)
    encoder.fit_scale(small)
    assert torch.pdist(encoder(small)).min() > 10 * torch.pdist(before).min()


def test_inputs_are_told_apart_by_their_embedding_only():
    networks = networks_of("mlp")
    (stack,) = networks
    parameters = {**stack.parameters, "0.weight": stack.parameters["0.weight"].flip(-1)}
    flipped = Networks.stacked(stack.graph, parameters)
    for embedding in ("index", "learned", "none"):
        encoder = randomize(NGGNN(networks, width=8, embedding=embedding))
        same = torch.allclose(encoder(networks), encoder(flipped), rtol=1e-10, atol=1e-12)
        assert same == (embedding == "none")


def test_activations_are_seen_unless_switched_off():
    def net(activation):
        return nn.Sequential(nn.Linear(3, 5), activation, nn.Linear(5, 2))

    parameters = {n: torch.randn(2, *p.shape) for n, p in net(nn.ReLU()).named_parameters()}
    relu, tanh = (
        Networks.stacked(ngopt.trace(net(f), torch.randn(4, 3)), parameters)
        for f in (nn.ReLU(), nn.Tanh())
    )
    for shown in (True, False):
        encoder = randomize(NGGNN(width=8, activations=shown))
        assert torch.allclose(encoder(relu), encoder(tanh)) != shown


def test_states_of_neurons_move_with_them():
    networks = networks_of("mlp", 1)
    encoder = randomize(NGT(networks, width=8))
    (before,) = encoder.neurons(networks)
    (after,) = encoder.neurons(Networks((permuted(networks.stacks[0]),)))
    assert {name: tuple(t.shape) for name, t in before.items()} == {
        "p0": (1, 3, 8), "h0": (1, 6, 8), "h1": (1, 6, 8), "p1": (1, 2, 8)
    }  # fmt: skip
    torch.testing.assert_close(before["p1"], after["p1"])
    assert not torch.allclose(before["h0"], after["h0"])
    torch.testing.assert_close(before["h0"].sort(1).values, after["h0"].sort(1).values)


def test_networks_of_other_inputs_are_refused():
    other = networks_of("mlp")
    wide = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    encoder = NGGNN(other, embedding="learned")
    with pytest.raises(EncoderError, match="networks of 3 inputs, but one has 4"):
        encoder(Networks.from_modules([wide], torch.randn(2, 4)))
    encoder = NGGNN(other, read_out="outputs")
    with pytest.raises(EncoderError, match="networks of 2 outputs, but one has 3"):
        encoder(Networks.from_modules([wide], torch.randn(2, 4)))
    encoder = NGGNN(other, scale="tensor")
    with pytest.raises(EncoderError, match="another architecture"):
        encoder(Networks.from_modules([wide], torch.randn(2, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": "learned"}, "needs an example"),
        ({"read_out": "outputs"}, "needs an example"),
        ({"scale": "tensor"}, "needs an example"),
        ({"scale": "log"}, "one of: kind, tensor"),
        ({"embedding": "sine"}, "one of: index, learned, none"),
        ({"read_out": "max"}, "one of: pool, attention, outputs"),
        ({"aggregators": ["sum"]}, "cannot aggregate"),
        ({"layers": 0}, "at least 1"),
        ({"edge_width": 0}, "at least 1"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(EncoderError, match=message):
        NGGNN(**options)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(EncoderError, match="divides the width"):
        NGT(width=6, heads=4)


def test_entries_need_a_head():
    networks = networks_of("mlp")
    with pytest.raises(EncoderError, match=r"NGGNN\(entry_outputs=1\)"):
        NGGNN().entries(networks)
