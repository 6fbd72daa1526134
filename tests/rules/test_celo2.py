import numpy as np
import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.adam import Adam
from ngopt.rules.celo2 import Celo2
from tests.features.slow_adafactor import SlowAdafactor, perceptron, rsqrt
from tests.rules.rule_inputs import GRAPHS, draw, randomize

DECAYS = (0.9, 0.99, 0.999)
SHAPES = [(5, 3), (3, 5), (4, 4), (4, 3, 2, 2)]


def by_tap(array):
    """Divide each tap's matrix by its root mean square."""
    return array * rsqrt(np.mean(array**2, (0, 1)) + 1e-9)


def slow_newton_schulz(matrix):
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (np.linalg.norm(x) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


def slow_step(rule, slow, gradient, weight):
    """The update of a tensor `(out, in, taps)` from its formulas."""
    g = np.clip(gradient, -1000, 1000)
    slow.take(g)
    f = slow.features(g, weight)
    root = rsqrt(slow.v + 1e-8)
    x = [g, np.clip(g, -0.1, 0.1), *f[1:13], g * root, *f[13:]]
    assert len(x) == 30
    d, a, _ = np.moveaxis(perceptron(rule.net, np.stack([by_tap(part) for part in x], -1)), -1, 0)
    d = d * np.exp(rule.config["exp_mult"] * a)
    if rule.config["orthogonalize"]:
        taps = [slow_newton_schulz(d[:, :, tap].T).T for tap in range(d.shape[2])]
        d = np.stack(taps, -1)
    return by_tap(d)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"orthogonalize": False, "exp_mult": 0.3}], ids=str)
def test_five_steps_against_the_formulas(shape, options):
    rule = randomize(Celo2(**options))
    described = NeuralGraph.per_tensor({"w": shape})
    array = described.bundles[0].shape[1:]
    slow = SlowAdafactor(array, DECAYS, 0.95, DECAYS, 1e-8)
    weight = draw(described, 0)
    state = rule.init_state(weight, described)
    for step in range(5):
        gradient = {"w": 600 * draw(described, step + 1)["w"]}
        gradient["w"].flatten()[1] = 0.05
        update, state = rule(weight, gradient, state, described)
        arrays = [tensors["w"].view(array).numpy() for tensors in (gradient, weight)]
        expected = torch.tensor(slow_step(rule, slow, *arrays)).view(shape)
        torch.testing.assert_close(update["w"], expected, rtol=1e-6, atol=1e-6)


def test_counts_its_weights():
    assert sum(p.numel() for p in Celo2().parameters()) == 347


def run(rule, described, scale=1.0):
    parameters = draw(described, 0)
    state = rule.init_state(parameters, described)
    for seed in range(1, 4):
        gradients = {name: scale * g for name, g in draw(described, seed).items()}
        update, state = rule(parameters, gradients, state, described)
    return update, state


def test_biases_and_embeddings_get_adams_direction():
    described = GRAPHS["attention_block"]
    update, state = run(Celo2(mult_1d=3.0), described)
    adam, moments = run(Adam((0.9, 0.95), 1e-8), described)
    for name in ("embedding.weight", "qkv.bias", "norm.weight"):
        torch.testing.assert_close(update[name], 3 * adam[name])
        assert state[name]["rows"].numel() == state[name]["momentum1"].numel() == 0
    plain, _ = run(Celo2(mult_1d=3.0, bias_correction=False), described)
    mean, square = (moments["qkv.bias"][name] for name in ("exp_avg", "exp_avg_sq"))
    torch.testing.assert_close(plain["qkv.bias"], 3 * mean * (square + 1e-8).rsqrt())
    torch.testing.assert_close(plain["qkv.weight"], update["qkv.weight"])
    assert len({frozenset(tensors) for tensors in state.values()}) == 1


def test_every_update_of_a_matrix_has_a_root_mean_square_of_1():
    described = GRAPHS["residual_convnet"]
    for name, tensor in run(Celo2(), described)[0].items():
        layout = described.layout(name)
        if "in" in layout.bundles[0].roles:
            (array,) = layout.views(tensor)
            torch.testing.assert_close(array.square().mean((1, 2)), torch.ones_like(array[:, 0, 0]))


def test_gradients_are_clipped():
    described = NeuralGraph.per_tensor({"w": (3, 2), "b": (4,)})
    parameters = draw(described, 0)
    states = []
    for size in (1000.0, 1e6):
        rule = Celo2()
        gradients = {name: size * torch.ones_like(p) for name, p in parameters.items()}
        states.append(
            rule(parameters, gradients, rule.init_state(parameters, described), described)
        )
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("found", [True, False], ids=["matrix found", "embedding found"])
def test_moments_go_on_when_a_kind_changes(found):
    plain = NeuralGraph.per_tensor({"w": (6, 4)})
    item = Layout("w", (6, 4), plain.layouts["w"].bundles, "embedding")
    embedding = NeuralGraph(plain.spaces, {"w": item}, {})
    before, after = (embedding, plain) if found else (plain, embedding)
    rule = Celo2()
    _, state = run(rule, before)
    gradient = draw(plain, 9)
    update, new = rule(draw(plain, 0), gradient, state, after)
    assert update["w"].isfinite().all()
    expected = 0.9 * state["w"]["momentum0"] + 0.1 * gradient["w"]
    torch.testing.assert_close(new["w"]["momentum0"], expected)
    assert new["w"]["momentum1"].shape == ((6, 4) if found else (0,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_computes_wide_and_keeps_the_dtypes(dtype):
    described = NeuralGraph.per_tensor({"w": (3, 2), "b": (3,)})
    rule, parameters = Celo2(), draw(described, 0, dtype)
    state = rule.init_state(parameters, described)
    update, after = rule(parameters, draw(described, 1, dtype), state, described)
    for name, tensor in update.items():
        assert tensor.dtype == dtype
        assert {t.dtype for t in (*state[name].values(), *after[name].values())} == {torch.float32}


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_derivatives_with_respect_to_theta(size):
    described = NeuralGraph.per_tensor({"w": (3, 2)})
    rule, parameters = Celo2(), draw(described, 0, torch.float32)
    gradients = {"w": size * draw(described, 1, torch.float32)["w"]}
    update, _ = rule(parameters, gradients, rule.init_state(parameters, described), described)
    (update["w"] * draw(described, 2, torch.float32)["w"]).sum().backward()
    assert all(p.grad.isfinite().all() for p in rule.parameters())
    assert any(p.grad.any() for p in rule.parameters())


def test_config_builds_it_again():
    config = {
        "orthogonalize": False,
        "exp_mult": 0.5,
        "mult_1d": 2.0,
        "bias_correction": False,
        "seed": 3,
    }
    rule = Celo2(**config)
    assert rule.config == config
    again, other = Celo2(**config), Celo2(**{**config, "seed": 4})
    for name, tensor in rule.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not torch.equal(other.net.layers[0].weight, rule.net.layers[0].weight)


@pytest.mark.parametrize("options", [{"exp_mult": -1.0}, {"mult_1d": -1.0}], ids=str)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"(?s)Celo2 got .*Give"):
        Celo2(**options)
