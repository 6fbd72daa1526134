import pytest
import torch

from docs.make.trials import TRIALS, makers, outcome, outcomes
from ngopt.backends.dispatch import without_loops


@pytest.fixture(autouse=True)
def _unrecorded():
    # Trials are of few steps: to record them would take longer than to make them.
    with without_loops():
        yield


@pytest.mark.parametrize("name", TRIALS)
def test_every_trial_is_passed_by_ours_and_all_but_one_by_adamw(name):
    contestants = makers(None)
    assert outcome(TRIALS[name], contestants["ngopt"]) == "yes"
    expected = "no: parameters are NaN after it" if name.startswith("a NaN") else "yes"
    assert outcome(TRIALS[name], contestants["AdamW"]) == expected


class Idle(torch.optim.Optimizer):
    """Does nothing, and knows of no closure."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 1.0})

    def step(self):
        pass


def test_trials_can_be_failed():
    found = {name: who["idle"] for name, who in outcomes({"idle": Idle}).items()}
    assert found["bfloat16 parameters"] == "no: some parameters do not move"
    assert found["a closure is called, and its loss returned"].startswith("no: TypeError: ")
    assert found["add_param_group after some steps"] == "no: they do not move"


def test_a_state_that_is_lost_is_noticed():
    def forgetful(parameters):
        optimizer = torch.optim.AdamW(parameters)
        optimizer.load_state_dict = lambda state: None
        return optimizer

    found = outcome(TRIALS["a state from a file goes on to the last bit"], forgetful)
    assert found == "no: it goes on elsewhere"
