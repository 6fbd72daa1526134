import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.annealing import LARGEST
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.optim.update import Options, if_finite, init_state, update
from ngopt.rules.adam import Adam
from ngopt.rules.library import load_rule
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.rule import ParameterUpdate, Rule
from tests.contract import Small, assert_same, backward

SHAPES = {"weight": (4, 3), "bias": (4,), "scalar": (), "empty": (0, 2)}
GRAPH = NeuralGraph.per_tensor(SHAPES)
RULES = {"Adam": Adam, "default": lambda: load_rule("default")}

every_rule = pytest.mark.parametrize("rule", [make() for make in RULES.values()], ids=RULES)


class Plain(Rule):
    """Gradient descent with one learnable factor, which remembers the last gradient."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    @property
    def config(self):
        return {}

    def init_state(self, parameters, graph):
        return {name: {"last": torch.zeros_like(p)} for name, p in parameters.items()}

    def updates(self, parameters, gradients, state, graph):
        for name, gradient in gradients.items():
            yield ParameterUpdate(name, self.factor * gradient, {"last": gradient})


def _tensors(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in SHAPES.items()}


def _flat(state):
    return {f"{name}.{key}": v for name, tensors in state.items() for key, v in tensors.items()}


def _some_steps(rule, params, steps=2, options=None):
    options = options or {name: Options(0.1) for name in params}
    state = init_state(params, GRAPH, rule)
    for step in range(steps):
        params, state, _ = update(params, _tensors(step + 1), state, GRAPH, rule, options)
    return params, state


def test_the_formula():
    params, grads = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.5, -1.0])}
    graph, rule = NeuralGraph.per_tensor({"w": (2,)}), Plain()
    state = init_state(params, graph, rule)
    for maximize, expected in {False: [0.89, 2.18], True: [1.09, 1.78]}.items():
        options = {"w": Options(lr=0.1, weight_decay=0.1, maximize=maximize)}
        new, new_state, finite = update(params, grads, state, graph, rule, options)
        torch.testing.assert_close(new["w"], torch.tensor(expected))
        torch.testing.assert_close(new_state["w"]["last"], grads["w"] * (-1 if maximize else 1))
        assert finite


@every_rule
def test_changes_none_of_its_arguments(rule):
    params, grads = _tensors(), _tensors(1)
    state = init_state(params, GRAPH, rule)
    _, state, _ = update(params, grads, state, GRAPH, rule, {n: Options(0.1) for n in SHAPES})
    before = [{n: t.clone() for n, t in d.items()} for d in (params, grads, _flat(state))]
    update(params, grads, state, GRAPH, rule, {n: Options(0.1) for n in SHAPES})
    for first, second in zip(before, (params, grads, _flat(state)), strict=True):
        assert_same(first, second)


@every_rule
@settings(max_examples=15)
@given(
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    name=st.sampled_from(["weight", "bias", "scalar"]),
    seed=st.integers(0, 5),
)
def test_a_gradient_that_is_not_finite_changes_nothing_anywhere(rule, bad, name, seed):
    with torch.no_grad():
        params, state = _some_steps(rule, _tensors(seed))
        grads = _tensors(9)
        grads[name].view(-1)[-1] = bad
        options = {n: Options(0.1, 0.1, maximize=n == "bias") for n in SHAPES}
        new, new_state, finite = update(params, grads, state, GRAPH, rule, options)
    assert not finite
    assert_same(params, new)
    assert_same(_flat(state), _flat(new_state))


@every_rule
def test_derivatives_of_a_skipped_step_are_finite(rule):
    params = {name: tensor.requires_grad_() for name, tensor in _tensors().items()}
    grads = _tensors(1)
    grads["bias"][0] = math.nan
    state = init_state(params, GRAPH, rule)
    new, *_ = update(params, grads, state, GRAPH, rule, {n: Options(0.1) for n in SHAPES})
    wanted = [*params.values(), *rule.parameters()]
    total = sum(tensor.sum() for tensor in new.values())
    derivatives = torch.autograd.grad(total, wanted, allow_unused=True)
    assert all(d is None or d.isfinite().all() for d in derivatives)
    torch.testing.assert_close(derivatives[0], torch.ones(4, 3))


@every_rule
def test_parameters_without_gradient_come_back_as_they_are(rule):
    params, grads = _tensors(), _tensors(1)
    state = init_state(params, GRAPH, rule)
    _, state, _ = update(params, grads, state, GRAPH, rule, {n: Options(0.1) for n in SHAPES})
    del grads["weight"]
    new, new_state, _ = update(
        params, grads, state, GRAPH, rule, {n: Options(0.1, 0.1) for n in grads}
    )
    assert new["weight"] is params["weight"]
    assert new_state["weight"] is state["weight"]
    assert not torch.equal(new["bias"], params["bias"])


@every_rule
def test_no_gradients_at_all(rule):
    params = _tensors()
    new, state, finite = update(params, {}, {}, GRAPH, rule, {})
    assert_same(params, new)
    assert state == {}
    assert finite


def test_differentiable_in_theta_parameters_and_gradients():
    rule = Plain().double()
    graph = NeuralGraph.per_tensor({"w": (3,)})

    def run(factor, weight, gradient, lr):
        params = {"w": weight}
        state = init_state(params, graph, rule)
        for _ in range(2):
            with torch.nn.utils.stateless._reparametrize_module(rule, {"factor": factor}):
                params, state, _ = update(
                    params,
                    {"w": gradient * params["w"]},
                    state,
                    graph,
                    rule,
                    {"w": Options(lr, 0.1)},
                )
        return params["w"]

    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((), 3, 3, ())]
    assert torch.autograd.gradcheck(run, arguments)


def test_default_rule_gives_theta_a_meta_gradient():
    rule = load_rule("default")
    new, _ = _some_steps(rule, _tensors())
    sum(tensor.square().sum() for tensor in new.values()).backward()
    gradients = [p.grad for p in rule.parameters() if p.grad is not None]
    assert any(g.abs().max() > 0 for g in gradients)
    assert all(g.isfinite().all() for g in gradients)


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_single_and_rounded_once(rule, dtype):
    params = _tensors(0, dtype)
    wide = {name: tensor.float() for name, tensor in params.items()}
    grads = _tensors(1, dtype)
    wide_grads = {name: tensor.float() for name, tensor in grads.items()}
    options = {name: Options(0.1, 0.1) for name in SHAPES}
    low = update(params, grads, init_state(params, GRAPH, rule), GRAPH, rule, options)
    high = update(wide, wide_grads, init_state(wide, GRAPH, rule), GRAPH, rule, options)
    assert_same(low.params, {name: tensor.to(dtype) for name, tensor in high.params.items()})
    assert_same(_flat(low.state), _flat(high.state))


@every_rule
def test_a_tensor_lr_is_the_same_as_a_number(rule):
    with torch.no_grad():
        number, _ = _some_steps(rule, _tensors(), options={n: Options(0.1) for n in SHAPES})
        tensor, _ = _some_steps(
            rule, _tensors(), options={n: Options(torch.tensor(0.1)) for n in SHAPES}
        )
    torch.testing.assert_close(number, tensor)


def annealing_factor(options, rule, age):
    """Options as the optimizer gives them after so many steps at a constant learning rate."""
    return {
        n: replace(
            option, annealing_factor=min(rule.annealing_factor(age), max(1.0, LARGEST / option.lr))
        )
        for n, option in options.items()
    }


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_step_equals_update(rule, dtype):
    # The default rule moves all parameters at once, which is rounded in another order.
    error = 1e-5 if isinstance(rule, MatrixGNN) else 0.0
    error = 2**-6 if error and dtype == torch.bfloat16 else error
    model = Small().to(dtype)
    groups = [
        {"params": [*model.convolution.parameters()], "lr": 0.1, "weight_decay": 0.1},
        {"params": [*model.linear.parameters(), model.temperature], "maximize": True},
    ]
    optimizer = NeuralGraphOptimizer(groups, lr=0.01, rule=rule, model=model)
    # In the order of the groups: sums over bundles round differently in another.
    names = ["convolution.weight", "convolution.bias", "linear.weight", "linear.bias"]
    names.append("temperature")
    options = {
        n: Options(0.1, 0.1) if n.startswith("convolution") else Options(0.01, maximize=True)
        for n in names
    }
    state = None
    for seed in range(4):
        backward(model, seed)
        params = {n: model.get_parameter(n).detach().clone() for n in names}
        grads = {n: model.get_parameter(n).grad.clone() for n in names}
        if seed == 2:
            grads[names[-1]].fill_(math.nan)
            model.get_parameter(names[-1]).grad.fill_(math.nan)
        graph = optimizer.graph
        state = state or init_state(params, graph, rule)
        with torch.no_grad():
            aged = annealing_factor(options, rule, seed + 1 - optimizer.skipped_steps)
            params, state, _ = update(params, grads, state, graph, rule, aged)
        optimizer.step()
        found = {n: model.get_parameter(n).detach() for n in names}
        own = {n: optimizer.state[model.get_parameter(n)] for n in names}
        for one, other in ((params, found), (_flat(state), _flat(own))):
            torch.testing.assert_close(one, other, rtol=error, atol=error)
            if not error:
                assert_same(one, other)
    assert optimizer.skipped_steps == 1


def test_state_that_began_anew_in_another_shape():
    new, old = {"a": torch.ones(3), "b": torch.ones(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)}
    kept = if_finite(torch.tensor(True), new, old)
    assert all(torch.equal(kept[key], new[key]) for key in new)
    kept = if_finite(torch.tensor(False), new, old)
    assert {key: tensor.tolist() for key, tensor in kept.items()} == {"a": [0, 0, 0], "b": [0, 0]}
