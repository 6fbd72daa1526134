import pytest
import torch

from meta_train.tasks.mlp import MLP
from meta_train.unroll.move import mover
from meta_train.unroll.stacked import Stacked
from ngopt.optim.update import Options, update
from ngopt.rules import FF, MatrixGNN


@pytest.fixture
def rule():
    built = FF()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return built


@pytest.fixture
def runs(rule):
    task = MLP(width=(4,), depth=(1,), batch=(4,)).sample(torch.Generator().manual_seed(0))
    return Stacked(rule).begin(task, 3, torch.Generator().manual_seed(1))


def alone(runs, rule, number, weight_decay):
    parameters, gradients = (
        {name: tensor[number] for name, tensor in tree.items()}
        for tree in (runs.parameters, runs.gradients)
    )
    state = {n: {key: t[number] for key, t in of.items()} for n, of in runs.state.items()}
    options = dict.fromkeys(parameters, Options(runs.lr[number], weight_decay))
    return update(parameters, gradients, state, runs.task.graph, rule, options)


def check(runs, rules, moved, weight_decay=0.0):
    parameters, state = moved
    for number, rule in enumerate(rules):
        expected = alone(runs, rule, number, weight_decay)
        for name, tensor in expected.params.items():
            torch.testing.assert_close(parameters[name][number], tensor)
            for key, kept in expected.state[name].items():
                torch.testing.assert_close(state[name][key][number], kept)


def test_moves_all_runs_as_the_optimizer_moves_one(runs, rule):
    moved = mover(rule, runs.task, None, 0.1)(runs)
    check(runs, [rule] * 3, moved, 0.1)


@torch.no_grad()
def test_decays_matrices_as_the_rule_does_by_itself(runs):
    rule = MatrixGNN(base_update={"late_decay": 500.0, "late_decay_reference": 1.0})
    runs = Stacked(rule).begin(runs.task, 3, torch.Generator().manual_seed(1))
    own, most, none = (mover(rule, runs.task, None, decay)(runs)[0] for decay in (None, 250.0, 0.0))
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, (most if "weight" in name else none)[name])


def test_theta_may_differ_from_run_to_run(runs, rule):
    noise = {n: 0.1 * torch.randn(3, *w.shape) for n, w in rule.named_parameters()}
    theta = {n: w + noise[n] for n, w in rule.named_parameters()}
    moved = mover(rule, runs.task, theta, 0.0)(runs)
    rules = []
    for number in range(3):
        rules.append(FF())
        rules[-1].load_state_dict({n: t[number] for n, t in theta.items()})
    check(runs, rules, moved)
    assert not torch.equal(
        *(moved[0]["1.weight"][n] - runs.parameters["1.weight"][n] for n in (0, 1))
    )


@pytest.mark.parametrize("many", [False, True], ids=["one theta", "a theta for each run"])
@pytest.mark.parametrize("fresh", [True, False])
def test_runs_that_a_rule_takes_at_once_move_like_those_of_vmap(runs, many, fresh, monkeypatch):
    rule = MatrixGNN(context_every=2)
    runs = Stacked(rule).begin(runs.task, 3, torch.Generator().manual_seed(1))
    theta = None
    if many:
        theta = {n: w.detach() + 0.1 * torch.randn(3, *w.shape) for n, w in rule.named_parameters()}
    with torch.no_grad():
        assert rule.supports_runs(runs.gradients)
        found = mover(rule, runs.task, theta, 0.1)(runs, fresh=fresh)
        monkeypatch.setattr(MatrixGNN, "supports_runs", lambda *_: False)
        stacked = mover(rule, runs.task, theta, 0.1)(runs, fresh=fresh)
    for name, expected in stacked[0].items():
        torch.testing.assert_close(found[0][name], expected, rtol=1e-5, atol=1e-6)
        for key, kept in stacked[1][name].items():
            torch.testing.assert_close(found[1][name][key], kept, rtol=2**-7, atol=1e-6)


def test_runs_that_learn_are_stacked_by_vmap(runs):
    rule = MatrixGNN()
    runs = Stacked(rule).begin(runs.task, 3, torch.Generator().manual_seed(1))
    assert not rule.supports_runs(runs.gradients)
    parameters, _ = mover(rule, runs.task, None, 0.0)(runs)
    assert all(tensor.requires_grad for tensor in parameters.values())
