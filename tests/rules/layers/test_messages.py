import pytest
import torch

from ngopt.features import blocks
from ngopt.features.neurons import Ends
from ngopt.features.scale import unit
from ngopt.features.survey import Survey
from ngopt.rules.layers import messages
from ngopt.rules.layers.messages import MATRICES, Link, Round
from tests.features.random_edges import SHAPE, random_strand
from tests.rules.rule_inputs import randomize

GROUP, OUT, IN, _ = SHAPE
WIDTH = 6
H, X = ("g", "h"), ("g", "x")


def link_of(ends, source, seed=0, shape=SHAPE):
    """A link of random edges, and the edges."""
    strand, edges, _ = random_strand(seed, torch.float64, shape)
    return Link(ends, strand, Survey.of(edges), source), edges


def setting():
    """States of both sets of neurons, and of a source."""
    states = {
        H: torch.randn(GROUP * OUT, WIDTH, dtype=torch.float64),
        X: torch.randn(GROUP * IN, WIDTH, dtype=torch.float64),
    }
    return states, torch.randn(WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("few", [blocks.FEW, 0])
@pytest.mark.parametrize("entries", [None, 12, 1])
def test_messages_are_products_of_unit_matrices_within_each_group(entries, few, monkeypatch):
    if entries is not None:
        monkeypatch.setattr(blocks, "CPU_ENTRIES", entries)
        few = 0
    monkeypatch.setattr(messages, "FEW", few)
    states, source = setting()
    link, edges = link_of(Ends(H, X), source)
    assert (len(link.carrier.blocks) > 1) == (entries is not None)
    to_out, to_in = link.messages(states)
    assert to_out.shape == (GROUP * OUT, MATRICES * WIDTH)
    assert to_in.shape == (GROUP * IN, MATRICES * WIDTH)
    for number, array in enumerate((edges.weight, edges.adam, edges.moments.fast)):
        matrix = unit(array.mean(3))
        part = slice(number * WIDTH, (number + 1) * WIDTH)
        for g in range(GROUP):
            h, x = states[H].view(GROUP, OUT, -1)[g], states[X].view(GROUP, IN, -1)[g]
            rows, columns = slice(g * OUT, (g + 1) * OUT), slice(g * IN, (g + 1) * IN)
            torch.testing.assert_close(to_out[rows, part], matrix[g] @ x / IN**0.5)
            torch.testing.assert_close(to_in[columns, part], matrix[g].T @ h / OUT**0.5)


def test_an_end_without_neurons_speaks_through_its_source():
    states, source = setting()
    link, bias = link_of(Ends(H, ()), source, shape=(1, GROUP * OUT, 1, 1))
    expected = torch.outer(unit(bias.weight).flatten(), source)
    torch.testing.assert_close(link.messages(states)[0][:, :WIDTH], expected)
    assert torch.equal(link.in_state(states)[0], source[None])


def test_round_mixes_the_mean_of_incident_messages():
    states, source = setting()
    mix = randomize(Round(WIDTH, torch.Generator().manual_seed(0)))
    link, _ = link_of(Ends(H, X), source)
    bias, _ = link_of(Ends(H, ()), source, 1, (1, GROUP * OUT, 1, 1))
    new = mix([link, bias], states)
    (to_out, to_in), (from_bias, nothing) = link.messages(states), bias.messages(states)
    assert nothing is None
    said = (mix.to_out(to_out) + mix.to_out(from_bias)) / 2
    torch.testing.assert_close(new[H], torch.tanh(mix.keep(states[H]) + said))
    torch.testing.assert_close(new[X], torch.tanh(mix.keep(states[X]) + mix.to_in(to_in)))
    reordered = mix([bias, link], states)
    torch.testing.assert_close(reordered[H], new[H], rtol=1e-12, atol=1e-12)


def test_one_set_at_both_ends():
    states = {H: torch.randn(6, WIDTH, dtype=torch.float64)}
    mix = randomize(Round(WIDTH, torch.Generator().manual_seed(0)))
    link, _ = link_of(Ends(H, H), states[H][0], shape=(1, 6, 6, 1))
    to_out, to_in = link.messages(states)
    said = (mix.to_out(to_out) + mix.to_in(to_in)) / 2
    torch.testing.assert_close(mix([link], states)[H], torch.tanh(mix.keep(states[H]) + said))
