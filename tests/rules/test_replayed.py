"""Replayed steps are those of the rule, on the zoo."""

import copy
import pickle
import random

import pytest
import torch

from ngopt import NeuralGraphOptimizer
from ngopt.fused.switch import plain
from ngopt.replay import replay as replay_module
from ngopt.rules import SGDM
from ngopt.rules import replayed as replayed_module
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.replayed import changes, replays
from tests.rules.rule_inputs import (
    SOME,
    difference_to_plain,
    draw,
    randomize,
    relative_error,
    zoo_graph,
)
from tests.test_zoo import ZOO


@pytest.fixture
def asked(monkeypatch):
    """Number of times that a rule was asked itself, by being recorded or not at all."""
    calls = []
    original = MatrixGNN.stream

    def counted(self, *arguments):
        calls.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(MatrixGNN, "stream", counted)
    return calls


def drawn(described, seed):
    return draw(described, seed, torch.float32)


def step(rule, described, parameters, state, seed, fresh=True):
    gradients = drawn(described, seed)
    with torch.no_grad():
        found = list(changes(rule, parameters, gradients, state, described, fresh=fresh))
    assert sorted(change.name for change in found) == sorted(gradients)
    updates = {change.name: change.update for change in found}
    return updates, {change.name: change.state for change in found}


def trajectory(rule, described, steps):
    parameters = drawn(described, 0)
    state = rule.init_state(parameters, described)
    for number in range(steps):
        fresh = number % rule.refresh_every == 0
        updates, state = step(rule, described, parameters, state, number + 1, fresh)
        parameters = {n: p - 0.01 * updates[n] for n, p in parameters.items()}
    return parameters, state


def check(rule, described, steps):
    assert difference_to_plain(lambda: trajectory(rule, described, steps)) < 1e-5


@pytest.mark.parametrize("name", SOME)
def test_as_plain(name, asked):
    check(randomize(MatrixGNN()), zoo_graph(name), 5)
    assert len(asked) == 1 + 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(("every", "square"), [(1, "float32"), (4, "bfloat16")])
def test_as_plain_over_50_steps_on_the_zoo(name, every, square):
    check(randomize(MatrixGNN(context_every=every, square_dtype=square)), zoo_graph(name), 50)


@pytest.mark.parametrize(
    "options",
    [
        {"graph_context": False},
        {"momentum_dtype": "float32"},
        {"square_dtype": "bfloat16"},
        {"skeleton": {"orthogonal": 0}},
    ],
    ids=["graph off", "float32 momenta", "bfloat16 squares", "Adam's direction"],
)
def test_options(options, asked):
    check(randomize(MatrixGNN(**options)), zoo_graph("conv_flatten"), 3)
    assert len(asked) == 1 + 3


@pytest.mark.parametrize("name", SOME)
def test_steps_between_looks(name, asked):
    check(randomize(MatrixGNN(context_every=2)), zoo_graph(name), 5)
    assert len(asked) == 1 + 3


def test_theta_may_change(asked):
    described, rule = zoo_graph("conv_flatten"), randomize(MatrixGNN())
    parameters = drawn(described, 0)
    state = rule.init_state(parameters, described)
    before, _ = step(rule, described, parameters, state, 1)
    other = randomize(MatrixGNN())
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
    rule.load_state_dict(other.state_dict())
    after, _ = step(rule, described, parameters, state, 1)
    assert len(asked) == 1
    with plain():
        expected, _ = step(other, described, parameters, state, 1)
    assert relative_error(after, expected) < 1e-5
    assert relative_error(after, before) > 1e-3


def test_watching_changes_nothing(asked):
    described, rule, told = zoo_graph("conv_flatten"), randomize(MatrixGNN()), []
    expected, _ = trajectory(rule, described, 2)
    for observed in (rule, randomize(MatrixGNN())):
        observed.observer = lambda *insides: told.append(insides)
        found, _ = trajectory(observed, described, 2)
        assert relative_error(found, expected) == 0
    assert len(told) == 4 * len(described.layouts)
    assert len(asked) == 1 + 2 + 3


def test_large_models_many_tensors_and_other_rules_are_not_replayed(asked, monkeypatch):
    gradients = {"w": torch.ones(4)}
    with torch.no_grad():
        assert replays(MatrixGNN(), gradients)
        assert not replays(SGDM(), gradients)
        with monkeypatch.context() as patched:
            patched.setattr(replayed_module, "MOST", 0)
            assert not replays(MatrixGNN(), gradients)
        monkeypatch.setattr(replayed_module, "LARGEST", 3)
        assert not replays(MatrixGNN(), gradients)
    trajectory(MatrixGNN(), zoo_graph("conv_flatten"), 2)
    assert len(asked) == 2


def test_recordings_of_few_graphs_are_kept(asked, monkeypatch):
    monkeypatch.setattr(replayed_module, "GRAPHS", 2)
    rule = MatrixGNN()
    graphs = [copy.copy(zoo_graph("conv_flatten")) for _ in range(3)]
    for number in (0, 1, 0, 2, 0, 1):
        trajectory(rule, graphs[number], 1)
    assert len(asked) == 4
    assert len(rule.replays) == 2


class Mixture(torch.nn.Module):
    """Of whose experts a few are called at each step."""

    def __init__(self):
        super().__init__()
        self.into = torch.nn.Linear(5, 4)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(6))
        self.chosen = range(6)

    def forward(self, x):
        x = torch.tanh(self.into(x))
        return sum(self.experts[n](x) for n in self.chosen)


def mixture_trained(steps):
    torch.manual_seed(0)
    model, drawn = Mixture(), random.Random(0)
    optimizer = NeuralGraphOptimizer(model, rule=randomize(MatrixGNN(context_every=4)))
    x = torch.randn(8, 5)
    for number in range(steps):
        model.chosen = range(6) if number == 0 else drawn.sample(range(6), 3)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model, optimizer


def test_a_mixture_of_experts_as_plain():
    def run():
        model, optimizer = mixture_trained(40)
        named = {name: p.detach() for name, p in model.named_parameters()}
        return named, {name: optimizer.state[p] for name, p in model.named_parameters()}

    assert difference_to_plain(run) < 1e-5


def test_a_mixture_of_experts_is_recorded_expert_by_expert(asked, monkeypatch):
    programs = []
    original = replay_module.record
    monkeypatch.setattr(replay_module, "record", lambda *a: programs.append(1) or original(*a))
    mixture_trained(30)
    before, steps = len(programs), len(asked)
    _, optimizer = mixture_trained(60)
    # What is settled by then is not recorded anew, and is enough for all steps but looks.
    assert len(programs) == 2 * before
    assert len(asked) - 2 * steps < 15
    assert optimizer.rule.replays.keys() == {
        (id(optimizer.graph), name) for name in ("cohorts", "apart", ("step", True))
    }


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))])
def test_copies_have_recorded_nothing(copied):
    rule = MatrixGNN()
    here, _ = trajectory(rule, zoo_graph("conv_flatten"), 1)
    other = copied(rule)
    assert not hasattr(other, "replays")
    there, _ = trajectory(other, zoo_graph("conv_flatten"), 1)
    assert relative_error(here, there) == 0


def test_the_optimizer_replays(asked):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    optimizer = NeuralGraphOptimizer(model, rule=MatrixGNN())
    for number in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        if number == 2:  # Other parameters than before have a gradient.
            model[0].bias.grad = None
        optimizer.step()
    assert len(asked) == 2
