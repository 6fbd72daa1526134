"""Probes: what they start from, what networks answer to them, and an encoder of the answers."""

import pytest
import torch

from ngopt.encoders.graph_network import NGGNN, NGT
from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.probes import ProbeEncoder, Probes
from ngopt.errors import EncoderError
from ngopt.graph.nodes import nodes_of
from tests.encoders.small_networks import (
    NETWORKS,
    Siren,
    convnet,
    modules,
    permuted,
    siren,
    siren_inputs,
)

KINDS = ("normal", "uniform", "generator")


def error(found, expected):
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_probes_are_of_the_right_shape_and_about_one(kind):
    probes = Probes((3, 8, 8), 16, kind)()
    assert probes.shape == (16, 3, 8, 8)
    assert 0.3 < float(probes.detach().std()) < 1.1


def test_uniform_probes_stay_between_minus_one_and_one():
    values = Probes((2,), 500, "uniform")().detach()
    assert float(values.abs().max()) <= 1
    assert float(Probes((2,), 500, "normal")().detach().abs().max()) > 1


def test_generated_probes_are_affine_in_their_latents():
    probes = Probes((2,), 3, "generator")
    with torch.no_grad():
        probes.latents[2] = (probes.latents[0] + probes.latents[1]) / 2
    made = probes().detach()
    assert torch.allclose(made[2], (made[0] + made[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_probes_learn(kind):
    (stack,) = siren(2)
    probes = Probes((2,), 5, kind)
    probes.responses(stack).nodes[3].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in probes.parameters())


def test_answers_of_all_nodes():
    (stack,) = convnet(2)
    probes = Probes((2, 6, 6), 5, "uniform")
    nodes = nodes_of(stack.graph)
    found, parts = probes.node_responses(stack), probes.responses(stack).nodes
    assert found.shape == (2, nodes.count, 5)
    for n, item in enumerate(nodes.sets):
        rows = found[:, item.start : item.start + item.size]
        assert torch.equal(rows, parts.get(n, torch.zeros_like(rows)))


def test_no_probes_are_no_answers():
    (stack,) = siren(2)
    probes = Probes((2,), kind="none")
    assert list(probes.parameters()) == []
    assert probes.node_responses(stack).shape == (2, nodes_of(stack.graph).count, 0)
    with pytest.raises(EncoderError, match="no probes"):
        probes.outputs(stack)
    with pytest.raises(EncoderError, match="kind"):
        ProbeEncoder((2,), 1, kind="none")


def encoder(name):
    shape, outputs = {"siren": ((2,), 1), "convnet": ((2, 6, 6), 3)}[name]
    return ProbeEncoder(shape, outputs, 8, count=6, hidden=16).double()


@pytest.mark.parametrize("name", ["siren", "convnet"])
def test_hidden_neurons_can_be_permuted(name):
    (stack,) = NETWORKS[name]()
    reader = encoder(name)
    expected = reader(Networks((stack,)))
    assert error(reader(Networks((permuted(stack),))), expected) <= 1e-10
    assert error(expected[1:], expected[:-1]) > 1e-3


@pytest.mark.parametrize("name", ["siren", "convnet"])
def test_networks_do_not_depend_on_those_beside_them(name):
    (stack,) = NETWORKS[name](4)
    reader = encoder(name)
    together = reader(Networks((stack,)))
    for n in range(4):
        alone = reader(Networks((stack.select(slice(n, n + 1)),)))
        assert error(together[n], alone[0]) <= 1e-12


def test_architectures_stand_beside_each_other():
    (one,), (other,) = siren(2), Networks.from_modules(modules(lambda: Siren(9), 1), siren_inputs())
    reader = encoder("siren")
    found = reader(Networks((one, other), torch.tensor([2, 0, 1])))
    apart = torch.cat([reader(Networks((part,))) for part in (one, other)])
    assert error(found, apart[[1, 2, 0]]) <= 1e-12


def test_saved_and_loaded(tmp_path):
    networks = siren().to(torch.float32)
    networks = Networks(
        tuple(Stack(s.graph, s.parameters, s.model.float()) for s in networks.stacks)
    )
    reader = ProbeEncoder((2,), 1, 8, count=6, kind="uniform", hidden=16, layers=2, seed=3)
    for parameter in reader.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    save_encoder(reader, tmp_path / "reader.safetensors")
    back = load_encoder(tmp_path / "reader.safetensors")
    assert back.config == reader.config
    assert torch.equal(back(networks), reader(networks))


def test_the_seed_alone_decides_the_probes():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (Probes((2,), 4, seed=seed)() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_does_not_fit_is_refused():
    (stack,) = convnet(2)
    with pytest.raises(EncoderError, match="outputs=3"):
        ProbeEncoder((2, 6, 6), 1, 8).double()(Networks((stack,)))
    with pytest.raises(EncoderError, match="probes of shape"):
        ProbeEncoder((3, 6, 6), 3, 8).double()(Networks((stack,)))
    with pytest.raises(EncoderError, match="kind"):
        Probes((2,), 4, "gaussian")
    with pytest.raises(EncoderError, match="count"):
        Probes((2,), 0)


def graph_encoder(make, **options):
    return make(None, 8, layers=2, probes={"shape": (2, 6, 6), "count": 5}, **options).double()


@pytest.mark.parametrize("make", [NGGNN, NGT])
def test_nodes_of_graph_networks_hear_the_answers(make):
    (stack,) = convnet()
    reader = graph_encoder(make)
    expected = reader(Networks((stack,)))
    assert error(reader(Networks((permuted(stack),))), expected) <= 1e-10
    for n in range(3):
        alone = reader(Networks((stack.select(slice(n, n + 1)),)))
        assert error(expected[n], alone[0]) <= 1e-12
    # Only by running it can the statistics of a norm be told.
    others = dict(stack.buffers) | {"norm.running_mean": stack.buffers["norm.running_mean"] + 1}
    changed = Stack(stack.graph, stack.parameters, stack.model, others)
    assert error(reader(Networks((changed,))), expected) > 1e-4
    expected.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in reader.probes.parameters())


def test_graph_networks_can_do_without_probes():
    networks = siren()
    one, other = (NGGNN(None, 8, probes=p) for p in (None, {"shape": (2,), "kind": "none"}))
    assert torch.equal(one.double()(networks), other.double()(networks))


def test_graph_networks_with_probes_are_saved_and_loaded(tmp_path):
    networks = Networks(tuple(convnet().to(torch.float32)))
    networks.stacks[0].model.float()
    reader = NGGNN(None, 8, layers=1, probes={"shape": (2, 6, 6), "count": 5, "kind": "uniform"})
    save_encoder(reader, tmp_path / "reader.safetensors")
    back = load_encoder(tmp_path / "reader.safetensors")
    assert back.config == reader.config
    assert torch.equal(back(networks), reader(networks))
