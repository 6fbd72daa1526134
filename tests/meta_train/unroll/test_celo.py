import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from meta_train.baselines import opponent, tuned
from meta_train.curves import Budget
from meta_train.errors import MetaTrainError
from meta_train.unroll.celo import Celo, LossMeans, factored, features
from ngopt.features.adafactor import Rates, accumulate, entries, state_shapes, zeros
from ngopt.graph.neural_graph import NeuralGraph
from tests.meta_train.small_tasks import Network

WIDTHS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
WIDE = 5
"""Of the LSTM, whose published width is 64."""


def published(size=0.0):
    """Weights of the names and, but for the width, shapes of those published."""
    shapes = {f"ff_mod_stack.~.w0__{n}": (1, width, 4) for n, width in enumerate(WIDTHS)}
    shapes |= {"ff_mod_stack.~.w1": (1, 4, 4), "ff_mod_stack.~.w2": (1, 4, 3)}
    shapes |= {f"ff_mod_stack.~.b{n}": (1, width) for n, width in enumerate((4, 4, 3))}
    layers = {"linear": (18, WIDE), "linear_1": (18, WIDE), "linear_2": (18, WIDE)}
    layers |= {"rnn/linear": (2 * WIDE, 4 * WIDE), "step_size": (WIDE, 1)}
    for layer, shape in layers.items():
        shapes |= {f"rnn_params.{layer}.w": shape, f"rnn_params.{layer}.b": shape[1:]}
    shapes |= {f"lstm_init_state.{name}": (1, WIDE) for name in ("hidden", "cell")}
    return {name: size * torch.randn(shape) for name, shape in shapes.items()}


def made(tmp_path, weights, parameters, steps=100, **options):
    path = tmp_path / "celo.safetensors"
    save_file(weights, path)
    return Celo(parameters, weights=path, num_steps=steps, **options)


def test_a_constant_direction_is_in_proportion_to_the_weights(tmp_path):
    weights = published()
    weights["ff_mod_stack.~.b2"][0] = torch.tensor([2.0, 3.0, 7.0])
    weights["rnn_params.step_size.b"][0] = 0.5
    parameter = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = made(tmp_path, weights, [parameter], lr=2.0)
    parameter.grad = torch.tensor([1.0, -5.0])
    optimizer.step(lambda: 1.0)
    size = 0.1 * math.exp(0.5) * 0.001 * 2.0 * math.exp(0.003) * math.sqrt(12.5)
    expected = torch.tensor([3.0, 4.0]) - 2.0 * size
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 3, 2, 2), (6,)], ids=str)
def test_features_are_those_of_celo2_but_for_small_numbers(shape):
    described = NeuralGraph.per_tensor({"w": shape})
    layout, rates = described.layout("w"), Rates((0.1, 0.01, 0.001), 0.001, (0.1, 0.01, 0.001))
    parameter, ours = torch.randn(shape).double(), {}
    theirs = zeros(parameter, state_shapes(layout))
    for _ in range(20):
        gradient = 3 * torch.randn(shape).double()
        found = features(parameter, gradient, ours)
        theirs = accumulate(theirs, gradient, layout, rates)
    (entry,) = entries(gradient, parameter, theirs, layout, 1e-8)
    own = [gradient, gradient.clamp(-0.1, 0.1), *(_flat(a, layout) for a in entry.own[1:])]
    factors = [_flat(array, layout) for array in entry.factored]
    expected = torch.stack([*own, gradient * own[10], *factors])
    if len(shape) > 1:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    else:  # Celo2 has no network for biases: its features are the first fifteen
        torch.testing.assert_close(found[:14], expected[:14], rtol=1e-4, atol=1e-6)


def _flat(array, layout):
    (bundle,) = layout.bundles
    return layout.assemble([array.expand(bundle.shape)], torch.empty(layout.shape).double())


def test_dimensions_are_told_by_their_size():
    assert factored(torch.Size([7])) is None
    assert factored(torch.Size([7, 3])) == (1, 0)
    assert factored(torch.Size([3, 7])) == (0, 1)
    assert factored(torch.Size([4, 4])) == (1, 0)
    assert factored(torch.Size([2, 8, 3, 3])) == (3, 1)


def test_the_schedule_is_an_lstm(tmp_path):
    weights = published(0.4)
    parameter = nn.Parameter(torch.ones(2))
    schedule = made(tmp_path, weights, [parameter], steps=10)._schedule
    cell = nn.LSTMCell(WIDE, WIDE)
    # Haiku's gates are in another order, and its forget gate has one more of bias.
    gates = {"i": 0, "g": 1, "f": 2, "o": 3}
    order = torch.cat([torch.arange(WIDE) + WIDE * gates[gate] for gate in "ifgo"])
    kernel = weights["rnn_params.rnn/linear.w"].T[order]
    with torch.no_grad():
        cell.weight_ih.copy_(kernel[:, :WIDE])
        cell.weight_hh.copy_(kernel[:, WIDE:])
        cell.bias_ih.copy_(weights["rnn_params.rnn/linear.b"][order])
        cell.bias_hh.zero_()
        cell.bias_hh[WIDE : 2 * WIDE] = 1.0
    state = weights["lstm_init_state.hidden"], weights["lstm_init_state.cell"]
    means = LossMeans(10)
    times = torch.tensor([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1])

    def linear(name, x):
        return x @ weights[f"rnn_params.{name}.w"] + weights[f"rnn_params.{name}.b"]

    for step in range(5):
        loss = 2.0 - 0.3 * step
        means.add(loss)
        seen = torch.cat([((step / 10 - times) * 10).tanh(), means.features().float()])
        mixed = linear("linear_1", seen).relu() + linear("linear_2", seen)
        with torch.no_grad():
            state = cell(mixed.unsqueeze(0), state)
        expected = 0.1 * float(linear("step_size", state[0]).exp())
        assert schedule.step(loss) == pytest.approx(expected, rel=1e-5)


def test_means_of_the_loss():
    means, losses = LossMeans(1000), [2.0, 1.5, 1.6, 1.2, 1.3, 1.0]
    least = torch.full((10,), math.inf).double()
    decays = torch.exp(-1 / torch.logspace(1, 3, 10).double())
    for count, loss in enumerate(losses, 1):
        means.add(loss)
        found = means.features()
        shares = torch.stack([decays ** (count - 1 - n) for n in range(count)])
        of_each = (shares * torch.tensor(losses[:count]).double().unsqueeze(1)).sum(0)
        of_each = of_each / shares.sum(0)
        least = torch.minimum(least, of_each)
        expected = (of_each[:-1] - least[:-1]) / (of_each[1:] - least[:-1]).clamp(min=1e-8) - 1
        if count > 2:
            torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)
        else:
            assert not found.any()


def test_a_loss_that_leaps_is_held_back():
    steady, leaping = LossMeans(100), LossMeans(100)
    for means, losses in ((steady, (1.0, 1.0, 1.0)), (leaping, (1.0, 1.0, 1e9))):
        for loss in losses:
            means.add(loss)
    assert float(leaping._corrected().max()) < 2
    assert float(steady._corrected().max()) == pytest.approx(1)


def test_it_is_an_opponent_with_one_setting(tmp_path):
    weights = published(0.1)
    weights["ff_mod_stack.~.w0__7"][0, :, 0] = 1.0  # the normalised gradient, as in Adam
    weights["ff_mod_stack.~.w1"][0, 0, 0] = 1.0
    weights["ff_mod_stack.~.w2"][0, 0, 0] = 1.0
    weights["rnn_params.step_size.b"][0] = 4.0
    path = tmp_path / "celo.safetensors"
    save_file(weights, path)
    sweep = opponent(f"celo:weights={path}")
    assert len(sweep.settings) == 1
    first = tuned(sweep, Network(), Budget(20, 2, batches=1), folder=tmp_path / "kept")
    assert not first.curve.diverged.any()
    assert (first.curve.losses[-1] != first.curve.untrained).all()
    kept = next((tmp_path / "kept").glob("Celo_*.json")).read_text()
    assert str(tmp_path) not in kept.split('"command"')[0]


@pytest.mark.parametrize("text", ["celo", "celo:width=3", "adamw:weights=a"])
def test_options_of_opponents(text):
    with pytest.raises(MetaTrainError, match=f"cannot make the opponent `{text}`"):
        opponent(text)


def test_what_it_needs(tmp_path):
    parameter = nn.Parameter(torch.ones(2))
    optimizer = made(tmp_path, published(), [parameter])
    with pytest.raises(MetaTrainError, match="needs the loss"):
        optimizer.step()
    with pytest.raises(MetaTrainError, match="without weight decay"):
        made(tmp_path, published(), [parameter], weight_decay=0.1)
    with pytest.raises(MetaTrainError, match="cannot read the weights of Celo"):
        made(tmp_path, {"other": torch.ones(1)}, [parameter])
