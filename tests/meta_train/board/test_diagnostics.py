import pytest
import torch
from torch.func import grad

from meta_train.board.cards import ANGLE, CORRECTION, NEURONS, SCALE, UPDATE
from meta_train.board.diagnostics import POINTS, diagnose
from meta_train.curves import Setting
from meta_train.rules import rule_of
from meta_train.tasks.family import family_of
from ngopt.monitor.diagnostics import record_diagnostics
from ngopt.rules import SGDM, Adam

SETTING = Setting(lr=0.01)
RULE = rule_of("MatrixGNN:rounds=1,width=4")
SAMPLER = family_of("mlp:width=3,depth=1,activation=tanh,batch=4")
TASK = SAMPLER.sample(torch.Generator().manual_seed(0))


def last(rule, steps=4, setting=SETTING):
    return list(diagnose(rule, TASK, setting, steps, seed=0))[-1]


def test_adam_is_at_no_angle_to_itself_and_moves_by_its_learning_rate_at_first():
    first = next(diagnose(Adam(), TASK, SETTING, 1, seed=0))
    assert first.numbers[f"{ANGLE}/all parameters"] == pytest.approx(0, abs=0.1)
    assert first.numbers[f"{UPDATE}/3.bias"] == pytest.approx(0.01, rel=1e-4)
    assert first.images() == {}


def test_angles_are_those_of_the_same_gradients():
    number = 1
    found = next(diagnose(SGDM(), TASK, SETTING, number, seed=0))
    generator = torch.Generator().manual_seed(0)
    parameters, context = TASK.problem(generator)
    batch = tuple(t[0] for t in TASK.batches({}, 1, generator))
    gradient = grad(TASK.loss)(parameters, context, batch)["3.weight"].flatten()
    # Adam's first step is along the sign of the gradient, SGD's along the gradient.
    cosine = torch.cosine_similarity(gradient, gradient.sign(), dim=0)
    expected = torch.rad2deg(torch.arccos(cosine)).item()
    assert found.numbers[f"{ANGLE}/3.weight"] == pytest.approx(expected, rel=1e-3)
    size = 0.01 * gradient.square().mean().sqrt().item()
    assert found.numbers[f"{UPDATE}/3.weight"] == pytest.approx(size, rel=1e-4)


def test_learned_scales_and_pictures_are_those_of_the_last_step_of_a_watched_run():
    found = last(RULE)
    names = {"1.weight", "1.bias", "3.weight", "3.bias"}
    scales = {tag: value for tag, value in found.numbers.items() if tag.startswith(SCALE)}
    assert scales == {f"{SCALE}/{name}": 1.0 for name in names}  # of a fresh rule
    pictures = found.images()
    assert {f"{CORRECTION}/{name}" for name in names} < pictures.keys()
    assert f"{NEURONS}/h0" in pictures
    assert all(picture.dtype == torch.uint8 for picture in pictures.values())
    assert all(picture.shape[2] >= picture.shape[1] for picture in pictures.values())


def test_schedule_and_weight_decay_are_those_of_the_setting():
    constant, cosine = last(Adam()), last(Adam(), setting=Setting(0.01, "cosine"))
    ratio = cosine.numbers[f"{UPDATE}/3.bias"] / constant.numbers[f"{UPDATE}/3.bias"]
    assert ratio < 0.5
    first = next(diagnose(Adam(), TASK, SETTING, 1, seed=0))
    decayed = next(diagnose(Adam(), TASK, Setting(0.01, weight_decay=50.0), 1, seed=0))
    assert decayed.numbers[f"{UPDATE}/1.weight"] > 2 * first.numbers[f"{UPDATE}/1.weight"]


def test_long_runs_are_seen_in_some_of_their_steps():
    seen = [found.step for found in diagnose(Adam(), TASK, SETTING, 2 * POINTS + 3, seed=0)]
    assert seen[:3] == [1, 4, 7]
    assert seen[-1] == 2 * POINTS + 3
    assert len(seen) <= POINTS


def test_what_is_not_finite_is_left_out():
    class Still(Adam):
        def advance(self, parameter, gradient, state, layout):
            update, state = super().advance(parameter, gradient, state, layout)
            return 0 * update, state

    numbers = last(Still()).numbers
    assert {tag for tag in numbers if tag.startswith(ANGLE)} == set()
    assert numbers[f"{UPDATE}/3.bias"] == 0


def test_the_rule_stays_as_it_is():
    before = {name: weight.clone() for name, weight in RULE.state_dict().items()}
    with record_diagnostics(RULE) as seen:
        last(RULE)
    assert seen == {}
    assert RULE.on_diagnostics is None
    assert all(weight.grad is None for weight in RULE.parameters())
    assert all(weight.equal(before[name]) for name, weight in RULE.state_dict().items())
