import pytest
import torch
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from ngopt.errors import GraphError, RuleError
from ngopt.features.scale import rms
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, warm


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_gradients_move_nothing_and_all_slopes_are_finite(described, dtype):
    rule = randomize(MatrixGNN())
    zeros = {name: torch.zeros_like(t) for name, t in draw(described, 0, dtype).items()}
    gradients = {name: tensor.clone().requires_grad_() for name, tensor in zeros.items()}
    for parameters in (zeros, draw(described, 0, dtype)):
        update, _ = rule(parameters, gradients, rule.init_state(parameters, described), described)
        assert not any(tensor.any() for tensor in update.values())
        total = sum(tensor.sum() for tensor in update.values())
        slopes = torch.autograd.grad(
            total, [*gradients.values(), *rule.parameters()], allow_unused=True
        )
        assert all(slope is None or slope.isfinite().all() for slope in slopes)


def test_words_never_seen_stay():
    described = GRAPHS["attention_block"]
    rule = randomize(MatrixGNN())
    parameters, gradients, _ = warm(rule, described, steps=0)
    gradients["embedding.weight"][2:4] = 0
    update, _ = rule(parameters, gradients, rule.init_state(parameters, described), described)
    moved = update["embedding.weight"].any(1)
    assert moved.tolist() == [True, True, False, False, True, True, True]


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_free_of_the_scale_of_the_loss(scale):
    rule = randomize(MatrixGNN(momentum_dtype="float32"), size=0.2)
    parameters = draw(MLP, 0)
    updates = []
    for factor in (1.0, scale):
        state = rule.init_state(parameters, MLP)
        for step in range(4):
            gradients = {name: factor * g for name, g in draw(MLP, step + 1).items()}
            with torch.no_grad():
                update, state = rule(parameters, gradients, state, MLP)
        updates.append(update)
    assert relative_error(updates[1], updates[0]) < 1e-5


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_neurons_hear_as_far_as_there_are_rounds(rounds):
    rule = randomize(MatrixGNN(rounds=rounds))
    parameters, gradients, state = warm(rule, MLP)
    turned = {**gradients, "4.weight": -gradients["4.weight"]}
    with torch.no_grad():
        a, _ = rule(parameters, gradients, state, MLP)
        b, _ = rule(parameters, turned, state, MLP)
    # The last layer's columns are features of h1; one round takes them to h0, two to x and back.
    heard = {name for name in a if not torch.equal(a[name], b[name])} - {"4.weight"}
    nearest = {"2.weight", "2.bias", "4.bias"} if rounds else {"2.weight", "2.bias"}
    assert nearest <= heard
    assert ("0.weight" in heard) == (rounds >= 1)


def test_graph_decides_the_direction_but_not_the_size():
    rule = randomize(MatrixGNN())
    parameters, gradients, state = warm(rule, MLP)
    other = {**draw(MLP, 99), "0.weight": gradients["0.weight"]}
    with torch.no_grad():
        a = rule(parameters, gradients, state, MLP)[0]["0.weight"]
        b = rule(parameters, other, state, MLP)[0]["0.weight"]
    assert (a - b).abs().max() > 1e-3 * a.abs().max()
    torch.testing.assert_close(rms(a), rms(b), rtol=1e-10, atol=0)


def test_without_graph_context_each_parameter_is_on_its_own():
    rule = randomize(MatrixGNN(graph_context=False))
    assert rule.state_dict().keys() == MatrixGNN().state_dict().keys()
    parameters, gradients, state = warm(rule, MLP)
    with torch.no_grad():
        whole, _ = rule(parameters, gradients, state, MLP)
        for name in parameters:
            alone, _ = rule({name: parameters[name]}, {name: gradients[name]}, state, MLP)
            torch.testing.assert_close(alone[name], whole[name], rtol=1e-12, atol=0)
        with_context = MatrixGNN()
        with_context.load_state_dict(rule.state_dict())
        assert relative_error(with_context(parameters, gradients, state, MLP)[0], whole) > 1e-3


def test_without_statistics_neurons_still_hear_of_their_weights():
    rules = {
        (on, rounds): randomize(MatrixGNN(rounds=rounds, neuron_statistics=on))
        for on in (True, False)
        for rounds in (0, 1)
    }
    parameters, gradients, state = warm(rules[True, 1], MLP)
    turned = {**gradients, "4.weight": -gradients["4.weight"]}
    for (on, rounds), rule in rules.items():
        with torch.no_grad():
            a, _ = rule(parameters, gradients, state, MLP)
            b, _ = rule(parameters, turned, state, MLP)
        assert torch.equal(a["2.weight"], b["2.weight"]) == (not on and not rounds)


def test_parameters_without_gradient_send_no_messages():
    rule = randomize(MatrixGNN())
    parameters, gradients, state = warm(rule, MLP)
    kept = {name: gradients[name] for name in ("0.weight", "2.bias")}
    other = {**parameters, "2.weight": parameters["2.weight"] + 1}
    with torch.no_grad():
        update, new = rule(parameters, kept, state, MLP)
        same, _ = rule(other, kept, {name: state[name] for name in kept}, MLP)
    assert set(update) == set(new) == set(kept)
    assert all(torch.equal(update[name], same[name]) for name in kept)
    assert rule({}, {}, {}, MLP) == ({}, {})


def test_tied_parameters_go_by_any_of_their_names():
    described = GRAPHS["attention_block"]
    rule = randomize(MatrixGNN())
    parameters, gradients, state = warm(rule, described)
    renamed = [
        {"head.weight" if n == "embedding.weight" else n: t for n, t in tensors.items()}
        for tensors in (parameters, gradients, state)
    ]
    with torch.no_grad():
        expected, _ = rule(parameters, gradients, state, described)
        update, _ = rule(*renamed, described)
    assert torch.equal(update["head.weight"], expected["embedding.weight"])


def test_changes_none_of_its_arguments():
    rule = randomize(MatrixGNN())
    arguments = warm(rule, MLP, torch.float32)
    before = [(t, t.clone(), t._version) for t in tree_leaves(arguments)]
    rule(*arguments, MLP)
    assert all(torch.equal(t, copy) and t._version == version for t, copy, version in before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    rule = randomize(MatrixGNN(), size=0.2)
    exact = rule(*warm(rule, MLP, torch.float32, 0), MLP)[0]
    update, state = rule(*warm(rule, MLP, dtype, 0), MLP)
    assert {t.dtype for t in update.values()} == {dtype}
    assert {t["square"].dtype for t in state.values()} == {torch.float32}
    assert relative_error({n: t.float() for n, t in update.items()}, exact) < 0.1


def test_mixed_precision():
    rule = randomize(MatrixGNN())
    parameters = {**draw(MLP, 0, torch.float32), "2.weight": draw(MLP, 0)["2.weight"]}
    state = rule.init_state(parameters, MLP)
    update, _ = rule(parameters, parameters, state, MLP)
    assert {n: t.dtype for n, t in update.items()} == {n: t.dtype for n, t in parameters.items()}


@pytest.mark.parametrize("shape", [(), (1,), (5,), (0,), (0, 3), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_lone_tensors(shape):
    described = NeuralGraph.per_tensor({"w": shape, "other": (4, 2)})
    rule = randomize(MatrixGNN())
    parameters, gradients, state = warm(rule, described, torch.float32)
    update, _ = rule(parameters, gradients, state, described)
    assert update["w"].shape == shape
    assert update["w"].isfinite().all()
    assert update["w"].numel() == 0 or update["w"].any()


def test_unknown_parameter():
    tensors = {"nothing": torch.zeros(3)}
    rule = MatrixGNN()
    with pytest.raises(GraphError, match="no parameter `nothing`"):
        rule(tensors, tensors, rule.init_state(tensors, MLP), MLP)


def test_unknown_options():
    with pytest.raises(RuleError, match="cannot be stored as 'int8'"):
        MatrixGNN(momentum_dtype="int8")


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_slopes_of_theta(described):
    rule = randomize(MatrixGNN(width=4, hidden=3), size=0.3).double()
    parameters, gradients, state = warm(rule, described)
    weights = draw(described, 77)
    theta = dict(rule.named_parameters())
    direction = {name: torch.randn_like(tensor) for name, tensor in theta.items()}

    def loss(distance):
        moved = {name: tensor + distance * direction[name] for name, tensor in theta.items()}
        first, middle = functional_call(rule, moved, (parameters, gradients, state, described))
        second, _ = functional_call(rule, moved, (first, weights, middle, described))
        return sum((weights[name] * second[name]).sum() for name in weights)

    slope = torch.func.grad(loss)(torch.zeros((), dtype=torch.float64))
    with torch.no_grad():
        difference = (loss(1e-6) - loss(-1e-6)) / 2e-6
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-6)
    assert slope.abs() > 1e-2


def test_every_weight_of_theta_can_be_learnt():
    rule = randomize(MatrixGNN())
    update, _ = rule(*warm(rule, MLP), MLP)
    weights = draw(MLP, 5)
    slopes = torch.autograd.grad(
        sum((weights[name] * update[name]).sum() for name in update), list(rule.parameters())
    )
    assert all(slope.isfinite().all() and slope.any() for slope in slopes)


def test_config_builds_the_same_rule():
    options = {"width": 5, "rounds": 1, "hidden": 3, "graph_context": False, "seed": 4}
    rule = MatrixGNN(**options, momentum_dtype="float32", base_update={"trust": 0.5})
    assert options.items() <= rule.config.items()
    assert rule.config["base_update"]["trust"] == 0.5
    again = MatrixGNN(**rule.config)
    assert again.config == rule.config
    pairs = zip(rule.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other = MatrixGNN(**{**rule.config, "seed": 5})
    assert not torch.equal(other.start.weight, rule.start.weight)
