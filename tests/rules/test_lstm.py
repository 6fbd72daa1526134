import pytest
import torch
from torch import nn

from ngopt.errors import RuleError
from ngopt.features.scale import log_sign
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.lstm import LSTM
from tests.rules.rule_inputs import MLP, draw, randomize


def torchs(rule):
    """The same network as a module of torch."""
    hidden, layers = rule.config["hidden"], rule.config["layers"]
    network = nn.LSTM(2, hidden, layers).double()
    with torch.no_grad():
        for number, cell in enumerate(rule.cells):
            theirs = {
                "weight_ih": cell.inputs.weight.T,
                "weight_hh": cell.recurrent.weight.T,
                "bias_ih": cell.inputs.bias,
                "bias_hh": torch.zeros(4 * hidden),
            }
            for name, value in theirs.items():
                getattr(network, f"{name}_l{number}").copy_(value)
    return network


@pytest.mark.parametrize(("hidden", "layers"), [(20, 2), (3, 1), (4, 3)])
def test_equals_torchs_lstm_on_each_entry(hidden, layers):
    rule = randomize(LSTM(hidden, layers, p=8.0))
    network = torchs(rule)
    parameters = draw(MLP, 0)
    gradients = [draw(MLP, seed) for seed in range(1, 6)]
    state = rule.init_state(parameters, MLP)
    updates = []
    for gradient in gradients:
        update, state = rule(parameters, gradient, state, MLP)
        updates.append(update)
    for name, parameter in parameters.items():
        series = torch.stack([gradient[name].flatten() for gradient in gradients])
        outputs, (h, c) = network(log_sign(series, 8.0))
        expected = outputs @ rule.output.weight.double() + rule.output.bias.double()
        found = torch.stack([update[name].flatten() for update in updates])
        torch.testing.assert_close(found, expected.squeeze(-1))
        for key, theirs in (("hidden", h), ("cell", c)):
            assert state[name][key].shape == (*parameter.shape, layers * hidden)
            one = state[name][key].reshape(-1, layers, hidden).transpose(0, 1)
            torch.testing.assert_close(one, theirs)


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_shape_and_dtype(shape, dtype):
    described = NeuralGraph.per_tensor({"w": shape})
    rule, parameters = LSTM(), {"w": torch.ones(shape, dtype=dtype)}
    state = rule.init_state(parameters, described)
    update, after = rule(parameters, parameters, state, described)
    assert (update["w"].shape, update["w"].dtype) == (shape, dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {tensor.dtype for tensor in after["w"].values()} == {wide}


def test_zero_gradients_have_finite_derivatives():
    rule, parameters = LSTM(), {"w": torch.zeros(3, 2)}
    described = NeuralGraph.per_tensor({"w": (3, 2)})
    state = rule.init_state(parameters, described)
    update, state = rule(parameters, parameters, state, described)
    update, _ = rule(parameters, parameters, state, described)
    update["w"].square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in rule.parameters())


def test_the_seed_draws_theta_and_the_config_builds_it_again():
    rule = LSTM(hidden=5, layers=1, p=7.0, seed=3)
    assert rule.config == {"hidden": 5, "layers": 1, "p": 7.0, "seed": 3}
    again, other = LSTM(**rule.config), LSTM(**{**rule.config, "seed": 4})
    for name, tensor in rule.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not torch.equal(other.output.weight, rule.output.weight)


@pytest.mark.parametrize("options", [{"hidden": 0}, {"layers": 0}, {"p": 0.0}], ids=str)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match="LSTM got hidden="):
        LSTM(**options)
