"""Probing of recurrent networks: what is asked, what the answers lead to, and what is refused."""

import pytest
import torch

from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Stack
from ngopt.encoders.probing import FixedProbing, InteractiveProbing
from ngopt.errors import EncoderError
from tests.encoders.recurrent_networks import batch, permuted, speakers

KINDS = [FixedProbing, InteractiveProbing]
SMALL = {"inputs": 3, "outputs": 3, "width": 5, "units": 8, "length": 6}


def built(kind, **options):
    return kind(**{**SMALL, **options}).double()


def listened(encoder, networks, monkeypatch):
    """What the networks are asked in each step, `(steps, networks, sequences, inputs)`."""
    asked = []
    shape = encoder._shaped

    def keep(probes):
        asked.append(shape(probes))
        return asked[-1]

    monkeypatch.setattr(encoder, "_shaped", keep)
    encoder(networks)
    return asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequences", [1, 2])
def test_permuted_networks_have_the_same_encoding(kind, sequences):
    encoder, stack = built(kind, sequences=sequences), speakers(count=4)
    one, other = encoder(batch(stack)), encoder(batch(permuted(stack)))
    assert one.shape == (4, 5)
    assert (one - other).abs().max() < 1e-10
    assert (one[0] - one[1]).abs().max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_encodings_do_not_depend_on_the_rest_of_the_batch(kind):
    encoder, stack, other = built(kind), speakers(count=4), speakers(count=2, hidden=7)
    together = encoder(batch(stack, other))
    alone = encoder(batch(stack.select(torch.tensor([2]))))
    assert (together[2] - alone[0]).abs().max() < 1e-12
    assert (together[4:] - encoder(batch(other))).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probes", ["tokens", "unit", "free"])
def test_probes_are_of_the_kind_asked_for(kind, probes, monkeypatch):
    encoder = built(kind, probes=probes)
    asked = torch.cat([a.flatten(0, -2) for a in listened(encoder, batch(speakers()), monkeypatch)])
    if probes == "free":
        assert asked.min() < 0
    else:
        assert asked.min() >= 0
        assert asked.max() <= 1
    sums = asked.sum(-1)
    assert torch.allclose(sums, torch.ones_like(sums)) == (probes == "tokens")


def test_interactive_probing_asks_networks_different_things_after_the_first(monkeypatch):
    encoder = built(InteractiveProbing)
    asked = torch.stack(listened(encoder, batch(speakers(count=2)), monkeypatch))
    assert len(asked) == encoder.length
    assert torch.equal(asked[0, 0], asked[0, 1])
    assert (asked[1:, 0] - asked[1:, 1]).abs().flatten(1).max(1).values.min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_the_encoder_learns(kind):
    encoder = built(kind, sequences=2)
    encoder(batch(speakers())).square().sum().backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # Nothing is heard before the first step, and a hidden state of zeros is multiplied.
    assert not still


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_read_as_probabilities_unless_they_are_free(kind):
    stack = speakers()
    shifted = dict(stack.parameters)
    shifted["head.bias"] = stack.parameters["head.bias"] + 3  # the same probabilities
    other = Stack(stack.graph, shifted, stack.model)
    for answers, same in (("probabilities", True), ("free", False)):
        encoder = built(kind, answers=answers)
        difference = (encoder(batch(stack)) - encoder(batch(other))).abs().max()
        assert (difference < 1e-10) == same


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_encoder(kind, tmp_path):
    encoder = kind(**SMALL, sequences=2, probes="unit", answers="free", seed=3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1)
    save_encoder(encoder, tmp_path / "probing.safetensors")
    again = load_encoder(tmp_path / "probing.safetensors")
    assert type(again) is kind
    assert again.config == encoder.config
    networks = batch(speakers(dtype=torch.float32))
    assert torch.equal(again(networks), encoder(networks))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_from_the_seed_and_leave_random_numbers_alone(kind):
    before = torch.get_rng_state()
    one, same, other = kind(**SMALL), kind(**SMALL), kind(**SMALL, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    state, others = one.state_dict(), other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in same.state_dict().items())
    assert any(not torch.equal(tensor, others[name]) for name, tensor in state.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"sequences": 0}, "sequences=0"),
        ({"probes": "words"}, "probes='words'"),
        ({"answers": "words"}, "answers='words'"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options, message):
    with pytest.raises(EncoderError, match=message):
        built(kind, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_that_do_not_fit_are_refused(kind):
    encoder = built(kind)
    with pytest.raises(EncoderError, match="asks networks with 3 inputs"):
        encoder(batch(speakers(), speakers(inputs=4)))
    with pytest.raises(EncoderError, match="no networks"):
        encoder(batch())
