"""What every encoder does, whatever it is made of."""

import json

import pytest
import torch

from ngopt.encoders import ENCODERS, Networks, Stack, load_encoder, save_encoder
from ngopt.encoders.graph_encoder import GraphEncoder
from ngopt.errors import EncoderError
from tests.encoders.nets import KINDS, mixed, moved, networks_of, one, permuted
from tests.rules.rule_inputs import randomize

SEES_ORDER = {"flat", "flat_augmented"}
"""Encoders that depend on the order of hidden neurons."""

every_encoder = pytest.mark.parametrize("name", ENCODERS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def built(name, example, **options):
    return randomize(ENCODERS[name](example, **{"width": 8} | options)).eval()


def on_graphs(**options):
    """Encoders on the graph, by name."""
    found = {name: make(stack_graph("mlp")) for name, make in ENCODERS.items()}
    return [name for name, encoder in found.items() if isinstance(encoder, GraphEncoder)]


def stack_graph(kind):
    return networks_of(kind).stacks[0].graph


ON_GRAPHS = on_graphs()
OPTIONS = {
    "plain": {},
    "learned": {"embedding": "learned", "read_out": "outputs", "scale": "tensor"},
    "attention": {"embedding": "none", "read_out": "attention", "fourier": 3},
}


def difference(a, b):
    return ((a - b).abs().max() / a.abs().max().clamp(min=1)).item()


@every_encoder
@every_kind
def test_the_order_of_hidden_neurons_makes_no_difference(name, kind):
    networks = networks_of(kind)
    encoder = built(name, networks)
    before = encoder(networks)
    after = encoder(Networks((permuted(networks.stacks[0]),)))
    assert before.shape == (3, encoder.width) == (3, 8)
    assert difference(before[0], before[1]) > 1e-4
    if name in SEES_ORDER:
        assert difference(before, after) > 1e-4
    else:
        assert difference(before, after) <= 1e-10


@pytest.mark.parametrize("name", ON_GRAPHS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@every_kind
def test_outputs_for_entries_move_with_the_neurons(name, options, kind):
    networks = networks_of(kind)
    (stack,) = networks
    encoder = built(name, networks, entry_outputs=2, **options)
    (before,) = encoder.entries(networks)
    (after,) = encoder.entries(Networks((permuted(stack),)))
    assert {n: t.shape for n, t in before.items()} == {
        n: (*t.shape, 2) for n, t in stack.parameters.items()
    }
    for parameter, tensor in moved(stack, before).items():
        assert tensor.abs().max() > 1e-4
        assert difference(tensor, after[parameter]) <= 1e-10
    encoding = encoder(networks)
    assert difference(encoding, encoder(Networks((permuted(stack),)))) <= 1e-10


@pytest.mark.parametrize("name", ON_GRAPHS)
def test_changes_of_entries_start_small(name):
    networks = networks_of("mlp")
    encoder = ENCODERS[name](networks, entry_outputs=1)
    sizes = torch.cat([t.flatten() for t in encoder.entries(networks)[0].values()])
    assert 0 < sizes.abs().mean() < 0.05
    assert torch.equal(encoder.edit_scale, torch.full_like(encoder.edit_scale, 0.01))


@every_encoder
@every_kind
def test_an_answer_does_not_depend_on_the_others(name, kind):
    networks = networks_of(kind)
    encoder = built(name, networks)
    together = encoder(networks)
    for place in range(len(networks)):
        assert difference(together[place], encoder(one(networks, place))[0]) <= 1e-12


@pytest.mark.parametrize("name", [*ON_GRAPHS, "stat_nn"])
def test_nor_if_they_are_of_other_architectures(name):
    networks = mixed()
    encoder = randomize(ENCODERS[name](width=8))
    together = encoder(networks)
    assert together.shape == (12, 8)
    for place in range(len(networks)):
        assert difference(together[place], encoder(one(networks, place))[0]) <= 1e-12
    assert torch.pdist(together).min() > 1e-5


@pytest.mark.parametrize("name", ON_GRAPHS)
def test_entries_of_mixed_architectures(name):
    networks = mixed()
    encoder = randomize(ENCODERS[name](width=8, entry_outputs=1))
    for stack, found in zip(networks, encoder.entries(networks), strict=True):
        (alone,) = encoder.entries(Networks((stack,)))
        for parameter, tensor in stack.parameters.items():
            assert found[parameter].shape == (*tensor.shape, 1)
            assert difference(found[parameter], alone[parameter]) <= 1e-12


@every_encoder
def test_it_comes_back_from_a_file(name, tmp_path):
    networks = networks_of("convnet")
    encoder = built(name, networks)
    if hasattr(encoder, "fit_scale"):
        encoder.fit_scale(networks)
    save_encoder(encoder, tmp_path / "one.safetensors")
    loaded = load_encoder(tmp_path / "one.safetensors").eval()
    assert type(loaded) is type(encoder)
    assert json.loads(json.dumps(loaded.config)) == json.loads(json.dumps(encoder.config))
    assert torch.equal(loaded(networks), encoder(networks))


@every_encoder
def test_weights_are_drawn_from_the_seed_alone(name):
    networks = networks_of("mlp")
    before = torch.get_rng_state()
    first, same, other = (ENCODERS[name](networks, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.values(), same.values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.values(), other.values(), strict=True))


@every_encoder
def test_everything_is_learned(name):
    networks = networks_of("convnet").to(torch.float32)
    encoder = built(name, networks).train()
    encoder(networks).square().sum().backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # The last edges are read by outputs for entries only.
    assert all("edge" in n or "layers.2" in n or "layers.3" in n for n in silent), silent


@every_encoder
def test_a_cut_file_is_refused(name, tmp_path):
    path = tmp_path / "one.safetensors"
    save_encoder(ENCODERS[name](networks_of("mlp")), path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(EncoderError, match="is damaged"):
        load_encoder(path)


def test_files_of_other_things_are_refused(tmp_path):
    with pytest.raises(EncoderError, match="no file"):
        load_encoder(tmp_path / "none.safetensors")
    with pytest.raises(
        EncoderError, match=r"(?s)cannot save an encoder as .*ends in \.safetensors"
    ):
        save_encoder(ENCODERS["ng_gnn"](), tmp_path / "one.pt")


@every_encoder
def test_no_networks_are_refused(name):
    networks = networks_of("mlp")
    with pytest.raises(EncoderError, match="at least one"):
        ENCODERS[name](networks)(networks_of("mlp", count=0))


@every_encoder
def test_sizes_that_make_no_sense_are_refused(name):
    with pytest.raises(EncoderError, match=r"width=0.*\n.*at least 1"):
        ENCODERS[name](networks_of("mlp"), width=0)


@pytest.mark.parametrize("name", ["stat_nn", "flat", "flat_augmented"])
def test_an_encoder_of_one_architecture_refuses_another(name):
    encoder = ENCODERS[name](networks_of("mlp"))
    with pytest.raises(EncoderError, match=r"another architecture.*`0.bias` is \(5,\), not \(6,\)"):
        encoder(networks_of("mlp", width=5))
    with pytest.raises(EncoderError, match="2 stacks"):
        ENCODERS[name](Networks((*networks_of("mlp"), *networks_of("mlp", width=5))))


def test_two_architectures_cannot_be_stacked():
    (one,), (other,) = networks_of("mlp"), networks_of("mlp", width=5)
    with pytest.raises(ValueError, match="networks of one architecture"):
        Stack(one.graph, other.parameters)
