"""The training loop: resume to the last bit, and selection on validation alone."""

import math
from itertools import chain

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.reading.fit import Reading, fit
from meta_train.reading.options import FitOptions
from meta_train.reading.scores import SQUARED_ERROR

SHORT = FitOptions(epochs=4, batch=8, warmup=3, evaluations=4, device="cpu")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Line(Reading):
    """Regress a linear function with noise on the inputs; the test split may be another one."""

    score = SQUARED_ERROR
    examples = 40

    def __init__(self, kill_at=None, test_shift=0.0):
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(80, 3, generator=generator)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]])
        self.kill_at, self.calls, self.test_shift = kill_at, 0, test_shift
        self.seen = []

    def loss(self, module, index, generator):
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed
        self.seen.append(index.tolist())
        noise = 0.1 * torch.randn(len(index), 3, generator=generator)
        return (module(self.x[index] + noise) - self.y[index]).square().mean()

    def evaluate(self, module, split):
        part = slice(40, 60) if split == "validation" else slice(60, 80)
        shift = self.test_shift if split == "test" else 0.0
        error = (module(self.x[part]) - self.y[part] + shift).square().mean()
        return {"squared error": float(error)}

    def predict(self, module, split):
        return module(self.x[40:60] if split == "validation" else self.x[60:80]).squeeze(1)


class Jitter(nn.Module):
    """Draws from a generator of its own, as augmenting encoders do."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(9)

    def forward(self, x):
        noise = torch.randn(x.shape, generator=self.generator)
        return x + 0.1 * noise if self.training else x


def small(seed=0):
    torch.manual_seed(seed)
    body = nn.Linear(3, 8), nn.Tanh(), Jitter(), nn.Dropout(0.1)
    return nn.Sequential(*body, nn.Linear(8, 1))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def train(folder, reading, options=SHORT, **more):
    module = small()
    return module, fit(module, reading, options, 1, folder, "test", **more)


@pytest.mark.parametrize("kill_at", [2, 13, 17])
@pytest.mark.parametrize("optimizer", ["adamw", "ngopt"])
def test_a_killed_run_ends_with_the_same_weights_to_the_last_bit(tmp_path, kill_at, optimizer):
    options = FitOptions(**{**vars(SHORT), "optimizer": optimizer})
    module, fitted = train(tmp_path / "whole", Line(), options)
    with pytest.raises(Killed):
        train(tmp_path / "killed", Line(kill_at), options)
    torch.manual_seed(123)  # another process has other global random numbers
    again, refitted = train(tmp_path / "killed", Line(), options)
    assert torch.equal(weights(again), weights(module))
    assert refitted.history == fitted.history
    assert len(fitted.history) == 5


def test_a_finished_run_is_not_trained_again(tmp_path):
    module, fitted = train(tmp_path, Line())
    reading = Line()
    again, refitted = train(tmp_path, reading)
    assert reading.calls == 0
    assert torch.equal(weights(again), weights(module))
    assert refitted.history == fitted.history


def test_the_best_state_is_that_of_validation_whatever_the_test_scores(tmp_path):
    class Turning(Line):
        """Validation is best at the second evaluation, test at the last."""

        def __init__(self, test):
            super().__init__()
            self.scores = {"validation": iter((4.0, 1.0, 2.0, 3.0, 3.0)), "test": iter(test)}

        def evaluate(self, module, split):
            return {"squared error": next(self.scores[split])}

    falling, rising = (5.0, 4.0, 3.0, 2.0, 1.0), (1.0, 2.0, 3.0, 4.0, 5.0)
    one, fitted = train(tmp_path / "falling", Turning(falling))
    other, refitted = train(tmp_path / "rising", Turning(rising))
    assert fitted.step == refitted.step == fitted.history[1]["step"]
    assert fitted.score == 1.0
    assert torch.equal(weights(one), weights(other))


def test_each_epoch_reads_each_network_once(tmp_path):
    reading = Line()
    train(tmp_path, reading)
    epochs = [list(chain(*reading.seen[start : start + 5])) for start in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_bound_in_minutes_ends_a_run(tmp_path):
    options = FitOptions(**{**vars(SHORT), "minutes": 0.002, "epochs": 10**9})
    _, fitted = train(tmp_path, Line(), options)
    assert fitted.seconds >= 0.12
    assert len(fitted.history) >= 2


def test_a_step_without_a_finite_gradient_changes_nothing(tmp_path):
    class Broken(Line):
        def loss(self, module, index, generator):
            return super().loss(module, index, generator) * math.nan

    module, fitted = train(tmp_path, Broken())
    assert fitted.skipped == 20
    assert torch.equal(weights(module), weights(small()))


def test_global_random_numbers_are_left_alone(tmp_path):
    module = small()
    torch.manual_seed(4)
    expected = torch.rand(())
    torch.manual_seed(4)
    fit(module, Line(), SHORT, 1, tmp_path, "test")
    assert torch.rand(()) == expected


def test_another_run_in_the_folder_is_refused(tmp_path):
    train(tmp_path, Line(), key={"target": "class"})
    with pytest.raises(MetaTrainError, match=r"target: 'class', now 'gap'"):
        train(tmp_path, Line(), key={"target": "gap"})
    with pytest.raises(MetaTrainError, match="batch: 8, now 4"):
        train(tmp_path, Line(), FitOptions(**{**vars(SHORT), "batch": 4}), key={"target": "class"})


def test_curves_begin_with_the_score(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, Line())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = sorted(events.Tags()["scalars"])
    assert tags[:2] == ["1 squared error/test", "1 squared error/validation"]
    assert "2 training/loss" in tags


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(MetaTrainError, match="epochs > 0"):
        FitOptions(epochs=0)
