import json
import math
import re
import shutil
import sys
from dataclasses import asdict, replace

import pytest
import torch

from meta_train import baselines
from meta_train import curves as curves_module
from meta_train.baselines import DIGITS, OPPONENTS, Sweep, Tuned, grid, opponent, score, tuned
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
        {"sweep": replace(SWEEP, settings=grid((0.02, 0.2)))},
        {"sweep": replace(SWEEP, rule=SGDM(momentum=0.5))},
        {"task": Quadratic(spread=1.0), "name": "other"},
        *({"budget": replace(BUDGET, **{key: 3})} for key in ("steps", "problems", "seed")),
        {"budget": replace(BUDGET, batches=2)},
    ],
    ids=["settings", "rule", "task", "steps", "problems", "seed", "batches"],
)
def test_results_of_anything_else_are_not_used(change, computed, tmp_path):
    usual = {"sweep": SWEEP, "task": Quadratic(), "budget": BUDGET}
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
    for damaged, times in ((1, 1), (1 + len(SWEEP.settings), 2)):
        for path in sorted(tmp_path.rglob("*.json"), key=lambda path: len(path.parts))[:damaged]:
            path.write_text(path.read_text()[:-100])
        with pytest.warns(UserWarning, match="damaged"):
            assert alike(tuned(SWEEP, Network(), BUDGET, folder=tmp_path), first)
        assert len(computed) == times


def test_kept_results_are_small_and_need_no_curves(computed, tmp_path):
    first = tuned(SWEEP, Network(), BUDGET, folder=tmp_path)
    shutil.rmtree(tmp_path / "curves")
    assert alike(tuned(SWEEP, Network(), BUDGET, folder=tmp_path), first)
    assert len(computed) == 1
    (path,) = tmp_path.iterdir()
    numbers = re.findall(r"\d\.\d+", json.dumps(json.loads(path.read_text())["result"]))
    assert numbers
    assert max(map(len, numbers)) <= len("0.") + DIGITS


def test_few_digits_change_little(tmp_path):
    best = tuned(SWEEP, Network(), BUDGET, folder=tmp_path)
    place = SWEEP.settings.index(best.setting)
    exact = curves_module.curves(SWEEP.rule, Network(), [best.setting], BUDGET)[0]
    assert torch.allclose(best.curve.losses.double(), exact.losses, rtol=1e-4, atol=0)
    assert best.scores[place] == pytest.approx(score(exact, "train"), rel=1e-4)


def test_results_do_not_depend_on_what_a_rule_is_called(computed, tmp_path):
    first = tuned(SWEEP, Network(), BUDGET, folder=tmp_path)
    again = tuned(replace(SWEEP, name="runs/mine"), Network(), BUDGET, folder=tmp_path)
    assert len(computed) == 1
    assert alike(first, again)


class Screened:
    """Curves whose final loss is planted, for each number of problems and each setting."""

    def __init__(self, few, many):
        self.finals, self.asked = {1: few, 3: many}, []

    def __call__(self, rule, task, settings, budget):
        self.asked.append((budget.problems, settings))
        finals = self.finals[budget.problems]
        return [replace(made([1.0, 1.0], {}), losses=self._losses(finals[s])) for s in settings]

    def _losses(self, final):
        return torch.full((20, 2), final)


SETTINGS = grid((0.1, 0.2, 0.3, 0.4))
"""Four with a constant schedule, then four with a cosine."""
BY_FEW = dict(zip(SETTINGS, [4.0, 1.0, 3.0, 2.0, 8.0, 7.0, 5.0, 6.0], strict=True))
BY_MANY = dict(zip(SETTINGS, [0.5, 3.0, 0.5, 2.0, 0.5, 0.5, 1.0, 4.0], strict=True))


def test_screening_keeps_the_best_two_of_each_schedule(monkeypatch):
    curves = Screened(BY_FEW, BY_MANY)
    monkeypatch.setattr(baselines, "curves", curves)
    best = tuned(replace(SWEEP, settings=SETTINGS), Quadratic(), Budget(20, 3), screen=1)
    finalists = [SETTINGS[n] for n in (1, 3, 6, 7)]
    assert curves.asked == [(1, list(SETTINGS)), (3, finalists)]
    assert best.setting == SETTINGS[6]
    assert best.scores == (3.0, 2.0, 1.0, 4.0)
    assert not best.at_edge


def test_edges_are_those_of_the_whole_sweep(monkeypatch):
    monkeypatch.setattr(baselines, "curves", Screened(BY_FEW, {**BY_MANY, SETTINGS[3]: 0.1}))
    best = tuned(replace(SWEEP, settings=SETTINGS), Quadratic(), Budget(20, 3), screen=1)
    assert best.setting.lr == 0.4
    assert best.at_edge


@pytest.mark.parametrize(
    ("screen", "count"), [(0, 8), (3, 8), (1, 4)], ids=["off", "all problems", "few settings"]
)
def test_without_screening(screen, count, monkeypatch):
    curves = Screened(BY_FEW, BY_MANY)
    monkeypatch.setattr(baselines, "curves", curves)
    settings = SETTINGS[:count]
    tuned(replace(SWEEP, settings=settings), Quadratic(), Budget(20, 3), screen=screen)
    assert curves.asked == [(3, list(settings))]


def test_screening_goes_on_where_it_was_killed(computed, tmp_path):
    sweep = replace(SWEEP, settings=grid((0.01, 0.1, 0.8)))
    first = tuned(sweep, Network(), BUDGET, folder=tmp_path, screen=1)
    curves = list((tmp_path / "curves").iterdir())
    assert len(curves) == 6 + 4
    max(curves, key=lambda path: path.stat().st_mtime_ns).unlink()
    next(tmp_path.glob("*.json")).unlink()
    assert alike(tuned(sweep, Network(), BUDGET, folder=tmp_path, screen=1), first)
    assert len(computed) == 3


def test_what_is_stacked_is_kept_as_soon_as_it_is_there(monkeypatch, tmp_path):
    """Killed in the second of four stacks, it goes on with that one."""
    sweep = replace(SWEEP, settings=grid((0.01, 0.1)))
    whole = tuned(sweep, Network(), BUDGET)
    monkeypatch.setattr(curves_module, "FLOPS_AT_ONCE", 1)
    asked, original = [], baselines.curves

    def killed(rule, task, settings, budget):
        asked.append(settings)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(rule, task, settings, budget)

    monkeypatch.setattr(baselines, "curves", killed)
    with pytest.raises(KeyboardInterrupt):
        tuned(sweep, Network(), BUDGET, folder=tmp_path)
    assert len(list(tmp_path.rglob("*.json"))) == 1
    found = tuned(sweep, Network(), BUDGET, folder=tmp_path)
    first, second, third, fourth = ([setting] for setting in sweep.settings)
    assert asked == [first, second, second, third, fourth]
    assert found.setting == whole.setting
    assert found.scores == pytest.approx(whole.scores, rel=1e-9)


def test_other_criteria_and_sweeps_use_the_same_curves(computed, tmp_path):
    tuned(SWEEP, Network(), BUDGET, folder=tmp_path)
    for criterion in ("held_out", "accuracy"):
        tuned(SWEEP, Network(), BUDGET, criterion, folder=tmp_path)
    single = replace(SWEEP, settings=SWEEP.settings[1:2])
    tuned(single, Network(), BUDGET, folder=tmp_path)
    assert len(computed) == 1


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
    decay = torch.optim.AdamW([torch.zeros(1)]).defaults["weight_decay"]
    for name, expected in (("adam", 0.0), ("adamw", decay)):
        settings = opponent(name).settings
        assert len(settings) == 14
        assert {(s.lr, s.schedule, s.weight_decay) for s in settings} == {
            (lr, schedule, expected) for lr in lrs for schedule in ("constant", "cosine")
        }
    assert isinstance(opponent("adamw").rule, Adam)
    assert isinstance(opponent("sgdm").rule, SGDM)
    assert isinstance(opponent("muon").rule, Muon)
    assert max(setting.lr for setting in opponent("sgdm").settings) == 1.0


def test_published_opponents_have_as_many_settings_as_adamw():
    for name, decays in (
        ("muon_adamw", {0.01}),
        ("nadamw", {0.01}),
        ("soap", {0.01}),
        ("schedule_free", {0.0, 0.01}),
    ):
        settings = opponent(name).settings
        assert len(settings) == 14
        assert {setting.weight_decay for setting in settings} == decays
    assert {setting.schedule for setting in opponent("schedule_free").settings} == {"constant"}
    assert opponent("nadamw").rule.nesterov
    assert opponent("muon_adamw").rule.hidden_only


@pytest.mark.parametrize("name", ["soap", "schedule_free"])
def test_kept_results_of_optimizers_need_no_package(name, computed, tmp_path, monkeypatch):
    pytest.importorskip("pytorch_optimizer")
    sweep = replace(opponent(name), settings=opponent(name).settings[:2])
    first = tuned(sweep, Network(), BUDGET, folder=tmp_path)
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    assert alike(first, tuned(sweep, Network(), BUDGET, folder=tmp_path))
    assert len(computed) == 1
    (path,) = tmp_path.glob("*.json")
    assert path.name.startswith({"soap": "SOAP", "schedule_free": "ScheduleFreeAdamW"}[name])


def test_plain_adam_is_kept_under_the_same_key_as_ever():
    assert set(Adam().config) == {"betas", "eps", "l2"}


@pytest.mark.parametrize("name", sorted(OPPONENTS.keys() - {"celo"}))
def test_every_opponent_learns(name):
    if name in ("soap", "schedule_free"):
        pytest.importorskip("pytorch_optimizer")
    assert opponent(name).name == name
    best = tuned(opponent(name), Network(), Budget(30, 1, batches=1))
    assert isinstance(best, Tuned)
    assert float(best.curve.final) < 0.9 * float(best.curve.untrained)


def test_unknown_opponent():
    names = "adam, adamw, celo, muon, muon_adamw, nadamw, schedule_free, sgdm, soap"
    with pytest.raises(MetaTrainError, match=rf"no opponent `sgd`(.|\n)*{names}"):
        opponent("sgd")
