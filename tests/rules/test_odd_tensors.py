"""Tensors of every shape and precision, gradients of every size, graphs that are found late."""

import torch

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.update import Options, init_state, update
from tests.rules.rule_inputs import GRAPHS, draw, randomize, trajectory
from tests.rules.table import every_rule, every_rule_with

SHAPES = [
    (),
    (1,),
    (5,),
    (0,),
    (0, 3),
    (3, 0),
    (1, 1),
    (2, 3),
    (2, 3, 4),
    (2, 1, 3, 2),
    (2, 3, 1, 2, 2),
]
DTYPES = {
    str(dtype): dtype for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
}


def lone(described):
    """The same parameters before anything is known of them but their shapes."""
    return NeuralGraph.per_tensor({n: item.shape for n, item in described.parameters.items()})


def assert_finite(updates, like):
    assert updates.keys() == like.keys()
    for name, tensor in updates.items():
        assert (tensor.shape, tensor.dtype) == (like[name].shape, like[name].dtype)
        assert tensor.isfinite().all()


@every_rule_with("dtype", {n: DTYPES[n] for n in ("torch.float32", "torch.float64")}, each=1)
def test_lone_tensors_of_all_shapes(make, dtype):
    described = NeuralGraph.per_tensor({str(shape): shape for shape in SHAPES})
    rule = randomize(make())
    parameters = draw(described, 0, dtype)
    updates, _ = trajectory(rule, described, parameters, [draw(described, 1, dtype)] * 2)
    for item in updates:
        assert_finite(item, parameters)
        assert all(tensor.any() for tensor in item.values() if tensor.numel())


@every_rule
def test_a_tensor_all_by_itself(make):
    rule = randomize(make())
    for shape in SHAPES:
        described = NeuralGraph.per_tensor({"w": shape})
        parameters = draw(described, 0)
        updates, _ = trajectory(rule, described, parameters, [draw(described, 1)] * 2)
        for item in updates:
            assert_finite(item, parameters)


@every_rule_with("described", GRAPHS, each=1)
def test_gradients_of_every_size(make, described):
    rule = randomize(make())
    parameters = draw(described, 0, torch.float32)
    gradients = [draw(described, step, torch.float32) for step in (1, 2)]
    for size in (0.0, 1e-30, 1e-15, 1e15):
        scaled = [{n: size * t for n, t in grads.items()} for grads in gradients]
        for item in trajectory(rule, described, parameters, scaled)[0]:
            assert_finite(item, parameters)


@every_rule_with("described", GRAPHS, each=1)
def test_each_parameter_may_be_the_only_one_with_a_gradient(make, described):
    rule = randomize(make())
    parameters, gradients = draw(described, 0), draw(described, 1)
    for name in parameters:
        (found,), _ = trajectory(rule, described, parameters, [{name: gradients[name]}])
        assert_finite(found, {name: parameters[name]})
        assert found[name].any()


@every_rule_with("dtype", DTYPES, each=1)
def test_parameters_of_every_precision(make, dtype):
    described = GRAPHS["attention_block"]
    rule = randomize(make())
    params, options = draw(described, 0, dtype), {n: Options(lr=10.0) for n in described.parameters}
    state = init_state(params, described, rule)
    kinds = {n: {k: t.dtype for k, t in tensors.items()} for n, tensors in state.items()}
    for step in range(2):
        with torch.no_grad():
            grads = draw(described, step + 1, dtype)
            after, state, finite = update(params, grads, state, described, rule, options)
        assert finite
        assert_finite(after, params)
        assert not any(torch.equal(after[n], params[n]) for n in params)
        assert kinds == {n: {k: t.dtype for k, t in s.items()} for n, s in state.items()}
        params = after


@every_rule_with("described", GRAPHS, each=1)
def test_a_graph_may_be_found_or_lost_on_the_way(make, described):
    rule = randomize(make())
    parameters = draw(described, 0)
    state = rule.init_state(parameters, lone(described))
    keys = {n: set(tensors) for n, tensors in state.items()}
    for step, known in enumerate([lone(described), described, described, lone(described)]):
        with torch.no_grad():
            found, state = rule(parameters, draw(described, step + 1), state, known)
        assert_finite(found, parameters)
        assert {n: set(tensors) for n, tensors in state.items()} == keys


@every_rule
def test_parameters_may_join_late(make):
    described = GRAPHS["mlp"]
    rule = randomize(make())
    parameters = draw(described, 0)
    late = {n: parameters[n] for n in ("2.weight", "4.bias")}
    early = {n: t for n, t in parameters.items() if n not in late}
    grads = {n: t for n, t in draw(described, 1).items() if n in early}
    _, state = trajectory(rule, described, early, [grads, grads])
    state |= rule.init_state(late, described)
    found, after = rule(parameters, draw(described, 2), state, described)
    assert_finite(found, parameters)
    assert {n: set(t) for n, t in after.items()} == {n: set(t) for n, t in state.items()}
