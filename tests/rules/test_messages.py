import torch

from ngopt.features.neurons import Ends
from ngopt.features.scale import unit
from ngopt.rules.messages import MATRICES, Link, Round
from tests.features.random_edges import SHAPE, random_edges
from tests.rules.rule_inputs import randomize

GROUP, OUT, IN, _ = SHAPE
WIDTH = 6
H, X = ("g", "h"), ("g", "x")


def setting(dtype=torch.float64):
    states = {
        H: torch.randn(GROUP * OUT, WIDTH, dtype=dtype),
        X: torch.randn(GROUP * IN, WIDTH, dtype=dtype),
    }
    return random_edges(dtype=dtype), states, torch.randn(WIDTH, dtype=dtype)


def test_messages_are_products_of_unit_matrices_within_each_group():
    edges, states, source = setting()
    link = Link.of(Ends(H, X), edges, source)
    to_out, to_in = link.to_out(states), link.to_in(states)
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


def test_messages_are_free_of_scale():
    states = setting()[1]
    a, b = (
        Link.of(Ends(H, X), random_edges(0, *scales, dtype=torch.float64), states[H][0])
        for scales in ((1.0, 1.0), (1e4, 1e-3))
    )
    torch.testing.assert_close(a.to_out(states), b.to_out(states), rtol=1e-5, atol=1e-5)


def test_an_end_without_neurons_speaks_through_its_source():
    _, states, source = setting()
    bias = random_edges(shape=(1, GROUP * OUT, 1, 1), dtype=torch.float64)
    link = Link.of(Ends(H, ()), bias, source)
    expected = torch.outer(unit(bias.weight).flatten(), source)
    torch.testing.assert_close(link.to_out(states)[:, :WIDTH], expected)
    assert torch.equal(link.in_state(states)[0], source[None])


def test_a_lone_tap_is_not_copied():
    edges = random_edges(shape=(2, 5, 3, 1))
    link = Link.of(Ends(H, X), edges, torch.zeros(WIDTH))
    assert link.matrices[0].data_ptr() == edges.weight.data_ptr()


def test_round_mixes_the_mean_of_incident_messages():
    edges, states, source = setting()
    mix = randomize(Round(WIDTH, torch.Generator().manual_seed(0)))
    link = Link.of(Ends(H, X), edges, source)
    bias = Link.of(
        Ends(H, ()), random_edges(1, shape=(1, GROUP * OUT, 1, 1), dtype=torch.float64), source
    )
    new = mix([link, bias], states)
    said = (mix.to_out(link.to_out(states)) + mix.to_out(bias.to_out(states))) / 2
    torch.testing.assert_close(new[H], torch.tanh(mix.keep(states[H]) + said))
    said = mix.to_in(link.to_in(states))
    torch.testing.assert_close(new[X], torch.tanh(mix.keep(states[X]) + said))
    reordered = mix([bias, link], states)
    torch.testing.assert_close(reordered[H], new[H], rtol=1e-12, atol=1e-12)


def test_one_set_at_both_ends():
    states = {H: torch.randn(6, WIDTH, dtype=torch.float64)}
    edges = random_edges(shape=(1, 6, 6, 1), dtype=torch.float64)
    mix = randomize(Round(WIDTH, torch.Generator().manual_seed(0)))
    link = Link.of(Ends(H, H), edges, states[H][0])
    said = (mix.to_out(link.to_out(states)) + mix.to_in(link.to_in(states))) / 2
    torch.testing.assert_close(mix([link], states)[H], torch.tanh(mix.keep(states[H]) + said))
