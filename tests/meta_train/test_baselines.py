import math
from dataclasses import asdict, replace

import pytest
import torch

from meta_train import baselines
from meta_train.baselines import OPPONENTS, Sweep, Tuned, grid, opponent, score, tuned
from meta_train.curves import Budget, Curve, Setting
from meta_train.errors import MetaTrainError
from ngopt.rules import LSTM, SGDM, Adam, Muon
from tests.meta_train.small_tasks import Network, Quadratic

BUDGET = Budget(steps=20, problems=2, batches=1)
DESCENT = SGDM(momentum=0.0)
SWEEP = Sweep("descent", DESCENT, grid((0.01, 0.1, 0.8, 1.9)))
BEST = 2 / (0.5 + 2.0)
"""Best learning rate of gradient descent, by the smallest and largest curvature of the task."""


@pytest.fixture
def computed(monkeypatch):
    """Names of the tasks on which curves were computed."""
    calls = []
    original = baselines.curves

    def counted(rule, task, settings, budget):
        calls.append(task.name)
        return original(rule, task, settings, budget)

    monkeypatch.setattr(baselines, "curves", counted)
    return calls


def alike(one, other):
    first, second = (asdict(replace(t, curve=t.curve.plain())) for t in (one, other))
    return first == second


def made(final, figures):
    """A curve of two problems that ends with these losses and held-out figures."""
    return Curve(
        losses=torch.tensor([[9.0, 9.0]] * 19 + [final] * 2),
        untrained=torch.tensor([9.0, 9.0]),
        measured={"held_out": {name: torch.tensor(f) for name, f in figures.items()}},
        diverged=torch.tensor([False, False]),
    )


@pytest.mark.parametrize("criterion", ["train", "held_out"])
def test_finds_the_planted_learning_rate(criterion):
    best = tuned(SWEEP, Quadratic(), BUDGET, criterion)
    assert BEST == 0.8
    assert best.setting == Setting(BEST, "constant")
    assert not best.at_edge
    assert len(best.scores) == len(SWEEP.settings)
    assert best.scores[SWEEP.settings.index(best.setting)] == min(best.scores)
    assert best.scores[0] == max(best.scores[:3])
    assert not best.curve.diverged.any()


def test_says_when_the_sweep_should_reach_further():
    assert tuned(replace(SWEEP, settings=grid((0.01, 0.1))), Quadratic(), BUDGET).at_edge
    assert not tuned(replace(SWEEP, settings=(Setting(0.1),)), Quadratic(), BUDGET).at_edge


def test_weight_decay_is_swept():
    sweep = replace(SWEEP, settings=grid((BEST,), (0.0, 1.0)))
    assert {setting.weight_decay for setting in sweep.settings} == {0.0, 1.0}
    assert tuned(sweep, Quadratic(), BUDGET).setting.weight_decay == 0.0


def test_results_are_used_again(computed, tmp_path):
    results = [tuned(SWEEP, Network(), BUDGET, folder=tmp_path) for _ in range(2)]
    assert computed == ["random"]
    assert alike(*results)
    for name, tensor in asdict(results[0].curve).items():
        if name != "measured":
            assert torch.equal(tensor, getattr(results[1].curve, name))


@pytest.mark.parametrize(
    "change",
    [
        {"sweep": replace(SWEEP, settings=grid((0.01,)))},
        {"sweep": replace(SWEEP, rule=SGDM(momentum=0.5))},
        {"task": Quadratic(spread=1.0), "name": "other"},
        *({"budget": replace(BUDGET, **{key: 3})} for key in ("steps", "problems", "seed")),
        {"budget": replace(BUDGET, batches=2)},
        {"criterion": "held_out"},
    ],
    ids=["settings", "rule", "task", "steps", "problems", "seed", "batches", "criterion"],
)
def test_results_of_anything_else_are_not_used(change, computed, tmp_path):
    usual = {"sweep": SWEEP, "task": Quadratic(), "budget": BUDGET, "criterion": "train"}
    tuned(**usual, folder=tmp_path)
    changed = usual | {key: value for key, value in change.items() if key != "name"}
    changed["task"].name = change.get("name", "quadratic")
    result = tuned(**changed, folder=tmp_path)
    assert len(computed) == 2
    assert alike(result, tuned(**changed))


def test_results_of_other_theta_or_version_are_not_used(computed, tmp_path, monkeypatch):
    rule = Sweep("lstm", LSTM(hidden=2, layers=1), (Setting(0.01),))
    tuned(rule, Quadratic(), BUDGET, folder=tmp_path)
    with torch.no_grad():
        next(rule.rule.parameters()).add_(1)
    tuned(rule, Quadratic(), BUDGET, folder=tmp_path)
    monkeypatch.setattr(baselines, "VERSION", -1)
    tuned(rule, Quadratic(), BUDGET, folder=tmp_path)
    assert len(computed) == 3


def test_damaged_results_are_computed_again(computed, tmp_path):
    first = tuned(SWEEP, Network(), BUDGET, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        assert alike(tuned(SWEEP, Network(), BUDGET, folder=tmp_path), first)
    assert len(computed) == 2


@pytest.mark.parametrize(
    ("criterion", "expected"), [("train", 2.0), ("held_out", 4.0), ("accuracy", -0.5)]
)
def test_scores(criterion, expected):
    curve = made([1.0, 3.0], {"loss": [3.0, 5.0], "accuracy": [0.25, 0.75]})
    assert score(curve, criterion) == expected


def test_lost_metrics_are_the_worst():
    assert (
        score(made([1.0, 1.0], {"loss": [1.0, 1.0], "accuracy": [0.5, math.nan]}), "accuracy")
        == math.inf
    )


def test_larger_accuracy_is_better():
    task = Network()
    best = tuned(Sweep("adam", Adam(), grid((1e-6, 0.1))), task, BUDGET, "accuracy")
    assert best.setting.lr == 0.1
    assert float(best.curve.measured["held_out"]["accuracy"].mean()) == -min(best.scores)


def test_unknown_criterion():
    with pytest.raises(MetaTrainError, match=r"by `acuracy`(.|\n)*train, held_out, accuracy"):
        score(made([1.0, 1.0], {"loss": [1.0, 1.0], "accuracy": [0.5, 0.5]}), "acuracy")


def test_opponents_are_swept_over_three_decades():
    lrs = {1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1}
    for name, decays in (("adam", {0.0}), ("adamw", {0.0, 0.01, 0.1})):
        settings = opponent(name).settings
        assert len(settings) == len(set(settings)) == 14 * len(decays)
        assert {(s.lr, s.schedule, s.weight_decay) for s in settings} == {
            (lr, schedule, decay)
            for lr in lrs
            for schedule in ("constant", "cosine")
            for decay in decays
        }
    assert isinstance(opponent("adamw").rule, Adam)
    assert isinstance(opponent("sgdm").rule, SGDM)
    assert isinstance(opponent("muon").rule, Muon)
    assert max(setting.lr for setting in opponent("sgdm").settings) == 1.0


@pytest.mark.parametrize("name", sorted(OPPONENTS))
def test_every_opponent_learns(name):
    assert opponent(name).name == name
    best = tuned(opponent(name), Network(), Budget(30, 1, batches=1))
    assert isinstance(best, Tuned)
    assert float(best.curve.final) < 0.9 * float(best.curve.untrained)


def test_unknown_opponent():
    with pytest.raises(MetaTrainError, match=r"no opponent `sgd`(.|\n)*adam, adamw, muon, sgdm"):
        opponent("sgd")
