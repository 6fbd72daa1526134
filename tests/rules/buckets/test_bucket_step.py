"""Steps in buckets: their sizes, derivatives, and steps in place."""

import pytest
import torch

from ngopt.backends.dispatch import eager, without_loops
from ngopt.features.scale import rms
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.buckets import plan as plans
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import Small, backward, copy_of, flat_state
from tests.rules import reference
from tests.rules.rule_inputs import draw, randomize, relative_error, zoo_graph


def trajectory(rule, described, where, dtype, steps=5):
    parameters = draw(described, 0, dtype)
    state = rule.init_state(parameters, described)
    with torch.no_grad(), where():
        for number in range(steps):
            # Each entry differs by its own, so that no tensor is next to zero for long.
            gradients = draw(described, number + 1, dtype)
            gradients = {
                name: g + 0.5 * rms(g) if g.numel() else g for name, g in gradients.items()
            }
            refresh = number % rule.refresh_every == 0
            update, state = rule(parameters, gradients, state, described, refresh=refresh)
            parameters = {n: p - 0.01 * update[n] for n, p in parameters.items()}
    return parameters, state


def test_large_buckets_are_divided_and_their_features_come_in_blocks(monkeypatch):
    rule, described = randomize(MatrixGNN()), zoo_graph("resnet")
    expected, _ = trajectory(rule, described, eager, torch.float64)
    for name in ("LARGE", "BLOCK", "BLOCK_IN_CACHE"):
        monkeypatch.setattr(plans, name, 1)
    monkeypatch.setattr(plans, "SHARE", 1000)
    monkeypatch.setattr(plans, "BLOCK_SHARE", 100)
    # Another rule, for a plan is kept.
    found, _ = trajectory(randomize(MatrixGNN()), described, eager, torch.float64)
    assert relative_error(found, expected) < 1e-9


def test_bundles_of_one_shape_share_a_bucket():
    def sizes(layers):
        shapes = {
            f"{n}.{kind}": s for n in range(layers) for kind, s in (("w", (4, 3)), ("b", (4,)))
        }
        rule, described = MatrixGNN(), NeuralGraph.per_tensor(shapes)
        made = Plan(described, list(shapes), rule.base_update, rule.positions.structure, rule.width)
        return [len(bucket.members) for bucket in made.buckets]

    assert sizes(2) == [2, 2]
    assert sizes(9) == [9, 9]


def test_derivatives_are_those_of_single_tensors():
    rule, described = randomize(MatrixGNN(graph_sizes=True)), zoo_graph("conv_flatten")
    parameters, state = trajectory(rule, described, without_loops, torch.float64, 2)
    gradients = draw(described, 9, torch.float64)
    slopes = []
    for updates, _ in (
        rule(parameters, gradients, state, described),
        reference.step(rule, parameters, gradients, state, described),
    ):
        total = sum((u * draw(described, 3, torch.float64)[n]).sum() for n, u in updates.items())
        slopes.append(torch.autograd.grad(total, list(rule.parameters())))
    pairs = [dict(enumerate(slope)) for slope in slopes]
    assert relative_error(*pairs) < 1e-6


def train(where, dtype, **options):
    torch.manual_seed(0)
    model = Small().to(dtype)
    optimizer = NeuralGraphOptimizer(model, **options)
    with where():
        for number in range(14):
            backward(model)
            if number == 4:
                model.linear.weight.grad.fill_(float("nan"))
            if number == 12:
                model.linear.weight.grad.mul_(1e5)
            optimizer.step()
    return copy_of(model), flat_state(optimizer), optimizer.skipped_steps


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1},
        {"maximize": True, "anneal": False, "lr": 1e-4},
        {"lr": torch.tensor(1e-3), "weight_decay": 0.0},
    ],
    ids=["decay", "maximize", "tensor lr"],
)
def test_in_place_as_one_by_one(options, monkeypatch):
    found = train(without_loops, torch.float64, **options)
    monkeypatch.setattr(MatrixGNN, "steps_in_place", lambda *_: False)
    expected = train(without_loops, torch.float64, **options)
    assert relative_error(found[0], expected[0]) < 1e-7
    assert found[1].keys() == expected[1].keys()
    assert found[2] == expected[2] == 1


def test_state_and_parameters_keep_their_memory():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    with eager():
        backward(model)
        optimizer.step()
        before = [t.data_ptr() for t in (*model.parameters(), *flat_state(optimizer).values())]
        for _ in range(12):
            backward(model)
            optimizer.step()
    after = [t.data_ptr() for t in (*model.parameters(), *flat_state(optimizer).values())]
    assert [a for a in after if a] == [b for b in before if b]


def test_half_precision_and_other_sets_of_gradients():
    model = Small().to(torch.bfloat16)
    optimizer = NeuralGraphOptimizer(model)
    with eager():
        for number in range(13):
            backward(model)
            if number % 2:
                model.convolution.weight.grad = None
            weight = model.convolution.weight.detach().clone()
            optimizer.step()
            assert torch.equal(weight, model.convolution.weight) == bool(number % 2)
    assert all(p.isfinite().all() for p in model.parameters())
    assert optimizer.state[model.convolution.weight]["step"] == 7
