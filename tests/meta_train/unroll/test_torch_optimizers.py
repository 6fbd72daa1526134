import copy
import re
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from meta_train.baselines import SCHEDULE_FREE, SOAP
from meta_train.curves import Budget, Setting, curves
from meta_train.errors import MetaTrainError
from meta_train.unroll import unroll as unroll_module
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.torch_optimizers import TorchOptimizer, TorchRuns
from ngopt.rules import Adam
from tests.meta_train.small_tasks import Network, Quadratic

ADAMW = TorchOptimizer("torch.optim.AdamW", {"betas": (0.8, 0.9)})
SETTINGS = [Setting(lr, schedule, 0.1) for lr in (0.03, 0.1) for schedule in ("constant", "cosine")]
BUDGET = Budget(25, 2, batches=3)


def from_the_package(*optimizers):
    return [pytest.param(optimizer, id=optimizer.name) for optimizer in optimizers]


def needs_package(optimizer):
    module = optimizer.path.partition(".")[0]
    # Another package may warn as it is imported first.
    return pytest.importorskip(module)


def by_hand(optimizer, task, setting, problem, steps):
    """Losses after each step, and at the end on held-out batches, of a loop that anybody writes."""
    whole = [batch for _, batch in task.drawn if len(batch[0]) == BUDGET.problems]
    drawn = [tuple(tensor[problem] for tensor in batch) for batch in whole]
    model = copy.deepcopy(task.module)
    model.load_state_dict(task.starts[-BUDGET.problems :][problem])
    stepper = optimizer.build(model.parameters(), setting.lr, setting.weight_decay, steps)
    losses = []
    for step in range(steps):
        for group in stepper.param_groups:
            group["lr"] = float(torch.tensor(setting.rate(step, steps)))
        *inputs, targets = drawn[step]
        stepper.zero_grad()
        task.criterion(model(*inputs), targets).backward()
        stepper.step()
        losses.append(measured(stepper, task, model, drawn[step + 1]))
    held_out = [measured(stepper, task, model, batch) for batch in drawn[steps + 1 :][:3]]
    return torch.tensor(losses), sum(held_out) / 3


def measured(stepper, task, model, batch):
    """Loss of a model, in the mode of evaluation if its optimizer has one."""
    found = copy.deepcopy(model)
    if hasattr(stepper, "eval"):
        stepper.eval()
        found = copy.deepcopy(model)
        stepper.train()
    *inputs, targets = batch
    with torch.no_grad():
        return float(task.criterion(found(*inputs), targets))


class Remembered(Network):
    """Remembers where its problems start."""

    def __init__(self):
        super().__init__()
        self.starts = []

    def problem(self, generator):
        problem = super().problem(generator)
        self.starts.append(problem.parameters)
        return problem


@pytest.mark.parametrize("optimizer", from_the_package(ADAMW, SOAP, SCHEDULE_FREE))
def test_runs_are_those_of_the_optimizer_itself(optimizer):
    needs_package(optimizer)
    task = Remembered()
    found = curves(optimizer, task, SETTINGS, BUDGET)
    for setting, curve in zip(SETTINGS, found, strict=True):
        for problem in range(BUDGET.problems):
            losses, held_out = by_hand(optimizer, task, setting, problem, BUDGET.steps)
            assert abs(losses - losses[0]).max() > 0.01
            torch.testing.assert_close(
                curve.losses[:, problem], losses.double(), rtol=1e-6, atol=1e-6
            )
            assert float(curve.measured["held_out"]["loss"][problem]) == pytest.approx(
                held_out, rel=1e-6
            )


def test_torch_s_adamw_is_the_rule():
    optimizer = TorchOptimizer("torch.optim.AdamW")
    theirs, ours = (curves(how, Network(), SETTINGS, BUDGET) for how in (optimizer, Adam()))
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one.losses, other.losses, rtol=1e-5, atol=1e-6)


def test_schedule_free_runs_are_measured_at_the_average():
    """Losses are those of `eval`, while gradients are those at the weights of `train`."""
    needs_package(SCHEDULE_FREE)
    task, steps = Network(), 6
    unroll = TorchRuns(SCHEDULE_FREE, UnrollOptions(lr=0.1), steps)
    runs = unroll.begin(task, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        runs, losses = unroll.advance(runs, steps)
    batch = task.drawn[-1][1]
    for kind, same in ((runs.average, True), (runs.parameters, False)):
        loss = torch.vmap(task.loss)(kind, runs.context, batch)
        assert torch.allclose(loss, losses[-1]) == same
    slopes = torch.vmap(torch.func.grad(task.loss))(runs.parameters, runs.context, batch)
    for name, slope in slopes.items():
        torch.testing.assert_close(runs.gradients[name], slope)


def test_a_warm_up_is_a_share_of_the_steps():
    needs_package(SCHEDULE_FREE)
    for steps, expected in ((1000, 50), (10, 0)):
        built = SCHEDULE_FREE.build([torch.nn.Parameter(torch.zeros(2))], 0.1, 0.0, steps)
        assert built.param_groups[0]["warmup_steps"] == expected


def test_what_is_in_files_counts_and_not_where_they_are(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, ("one", "one", "other"), strict=True):
        path.write_text(content)
    one, same, other = (TorchOptimizer("Any", files={"weights": str(path)}) for path in paths)
    assert one.config == same.config != other.config
    missing = TorchOptimizer("Any", files={"weights": str(tmp_path / "d")})
    with pytest.raises(MetaTrainError, match="cannot read"):
        missing.config  # noqa: B018


class Curious(torch.optim.SGD):
    """Remembers the losses it is told."""

    told: ClassVar = []

    def step(self, closure=None):
        self.told.append(closure())
        return super().step()


def test_optimizers_are_told_the_loss_that_the_gradients_are_of():
    (curve,) = curves(
        TorchOptimizer(f"{__name__}.Curious"), Quadratic(), [Setting(0.1)], Budget(4, 1, batches=1)
    )
    expected = [*curve.untrained.tolist(), *curve.losses[:-1, 0].tolist()]
    assert Curious.told == pytest.approx(expected)


def test_a_run_that_diverges_stands_still_and_leaves_the_others_alone():
    settings = [Setting(0.1), Setting(1e30)]
    optimizer = TorchOptimizer("torch.optim.SGD")
    tame, wild = curves(optimizer, Quadratic(), settings, Budget(10, 2, batches=1))
    assert not tame.diverged.any()
    assert wild.diverged.all()
    assert torch.equal(wild.losses[-1], 100 * wild.untrained)
    (alone,) = curves(optimizer, Quadratic(), settings[:1], Budget(10, 2, batches=1))
    torch.testing.assert_close(tame.losses, alone.losses)


class Fragile(torch.optim.SGD):
    """Fails as linear algebra does, at the third step."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            if group["count"] == 3:
                raise torch.linalg.LinAlgError("ill-conditioned")
        return super().step(closure)


def test_a_run_whose_linear_algebra_fails_has_diverged():
    optimizer = TorchOptimizer(f"{__name__}.Fragile")
    (curve,) = curves(optimizer, Quadratic(), [Setting(0.1)], Budget(5, 2, batches=1))
    assert curve.diverged.all()
    assert (curve.losses[:2] < curve.untrained).all()
    assert torch.equal(curve.losses[2], 100 * curve.untrained)


def test_steps_are_not_captured_where_those_of_rules_are(monkeypatch):
    expected = curves(ADAMW, Network(), SETTINGS, BUDGET)
    monkeypatch.setattr(unroll_module, "captures", lambda device: True)
    found = curves(ADAMW, Network(), SETTINGS, BUDGET)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.losses, other.losses)


def test_runs_cannot_be_started_anew():
    unroll = TorchRuns(ADAMW, UnrollOptions())
    runs = unroll.begin(Quadratic(), 2, torch.Generator())
    with pytest.raises(MetaTrainError, match="AdamW cannot be started anew"):
        unroll.restart(runs, torch.tensor([True, False]))


def test_a_missing_package_is_named():
    missing = replace(SOAP, path="no_such_package.SOAP")
    with pytest.raises(MetaTrainError, match=re.escape("pip install no_such_package")):
        curves(missing, Quadratic(), [Setting()], BUDGET)
