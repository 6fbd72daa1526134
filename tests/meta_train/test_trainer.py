import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import meta_train.tasks  # noqa: F401
from meta_train.config import Config
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.inner_stacks import Lengths
from meta_train.meta_loss import MetaLoss
from meta_train.outer import OuterOptions
from meta_train.trainer import MetaTrainer, as_json
from meta_train.unroll.options import UnrollOptions

TINY = Config(
    frozen=(),
    meta_loss=MetaLoss(),
    rule="LSTM:hidden=2,layers=1",
    families=("mlp:width=4|6,depth=1,batch=4",),
    steps=8,
    stacks=2,
    problems=2,
    truncation=2,
    lengths=Lengths(2, 8),
    device="cpu",
)


@pytest.fixture
def alone():
    with world("cpu") as processes:
        yield processes


def theta(trainer):
    return {name: weight.detach().clone() for name, weight in trainer.rule.named_parameters()}


@pytest.mark.parametrize("estimator", ["backprop", "greedy", "es", "pes", "nres"])
def test_every_estimator_moves_theta_and_reports(alone, estimator):
    trainer = MetaTrainer(replace(TINY, estimator=estimator), alone)
    before = theta(trainer)
    reports = [trainer.step() for _ in range(2)]
    assert any(not torch.equal(before[name], weight) for name, weight in theta(trainer).items())
    assert [report.step for report in reports] == [1, 2]
    for report in reports:
        assert 0 < report.meta_loss < 1.5
        assert report.norm > 0
        assert report.diverged == 0
        # Both stacks have as many runs, whether or not they are of the same task.
        mean = sum(report.by_task.values()) / len(report.by_task)
        assert mean == pytest.approx(report.meta_loss, rel=1e-5)
    copies = 2 if estimator in ("es", "pes", "nres") else 1
    assert trainer.inner_steps == 2 * 2 * 2 * 2 * copies


@pytest.mark.parametrize("estimator", ["backprop", "greedy", "es", "pes", "nres", "activity_pes"])
def test_frozen_parts_of_theta_stay(alone, estimator):
    rule = "MatrixGNN:width=4,rounds=1,hidden=4"
    config = replace(TINY, rule=rule, estimator=estimator, frozen=("scale", "head.entry"))
    trainer = MetaTrainer(config, alone)
    before = theta(trainer)
    trainer.step()
    moved = {n for n, weight in theta(trainer).items() if not torch.equal(before[n], weight)}
    assert "head.output.weight" in moved
    assert not [name for name in moved if name.startswith(("scale", "head.entry"))]


def test_only_what_is_there_can_be_frozen(alone):
    with pytest.raises(MetaTrainError, match=r"cannot freeze `scales`(.|\n)*cells"):
        MetaTrainer(replace(TINY, frozen=("scales",)), alone)


def test_what_is_frozen_by_default_need_not_be_there(alone):
    rule = MetaTrainer(replace(TINY, rule="FF", frozen=Config.frozen), alone).rule
    assert all(weight.requires_grad for weight in rule.parameters())


def test_stacks_of_the_same_task_are_averaged(alone):
    config = replace(TINY, families=("mlp:width=4,depth=1,batch=4",))
    report = MetaTrainer(config, alone).step()
    (loss,) = report.by_task.values()
    assert loss == pytest.approx(report.meta_loss, rel=1e-5)


def test_meta_gradient_is_the_mean_over_stacks(alone):
    trainer = MetaTrainer(TINY, alone)
    apart = [stack.estimate() for stack in deepcopy(trainer).stacks]
    given = {}
    trainer.outer.step = lambda gradient, *steps: given.update(gradient) or torch.zeros(())
    report = trainer.step()
    for name, gradient in given.items():
        mean = (apart[0].gradient[name] + apart[1].gradient[name]) / 2
        torch.testing.assert_close(gradient, mean)
    means = [float(estimate.losses.mean()) for estimate in apart]
    assert report.meta_loss == pytest.approx(sum(means) / 2)


def test_stacks_can_keep_to_one_family_each(alone):
    families = ("mlp:width=4,depth=1,batch=4", "mlp:width=6,depth=1,batch=4")
    config = replace(TINY, families=families, stacks=4, mixed=False, lengths=Lengths(2, 2))
    trainer = MetaTrainer(config, alone)
    for _ in range(3):
        trainer.step()
        names = [stack.task.name for stack in trainer.stacks]
        assert "width=4" in names[0] == names[2]
        assert "width=6" in names[1] == names[3]


def test_stacks_take_turns(alone):
    config = replace(TINY, stacks=6, active=2, lengths=Lengths(20, 20))
    trainer = MetaTrainer(config, alone)
    ages = []
    for _ in range(4):
        assert trainer.step().inner_steps == 2 * 2 * 2
        ages.append([stack.age // config.truncation for stack in trainer.stacks])
    assert ages == [[1, 1, 0, 0, 0, 0], [1] * 4 + [0, 0], [1] * 6, [2, 2, 1, 1, 1, 1]]


def test_groups_that_take_turns_must_be_equal():
    with pytest.raises(MetaTrainError, match="6 stacks cannot take turns in groups of 4"):
        replace(TINY, stacks=6, active=4)


def test_noise_stays_for_no_negative_number_of_steps():
    with pytest.raises(MetaTrainError, match="cannot stay for segment=-1"):
        replace(TINY, segment=-1)


def test_a_checkpoint_from_before_an_option_existed_goes_on(alone):
    trainer = MetaTrainer(TINY, alone)
    state = trainer.state_dict()
    config = json.loads(state["config"])
    del config["active"], config["augment"]["few"]
    trainer.load_state_dict({**state, "config": json.dumps(config)})
    with pytest.raises(MetaTrainError, match="problems: 2, now 3"):
        MetaTrainer(replace(TINY, problems=3), alone).load_state_dict(state)


def test_inner_steps_are_counted_where_large_models_have_fewer_runs(alone):
    config = replace(TINY, families=("mlp:width=4,depth=1,batch=4",), entries=310)
    trainer = MetaTrainer(config, alone)
    assert trainer.step().inner_steps == 2 * 1 * 2


def test_meta_training_lowers_the_meta_loss(alone):
    # The same steps of the same kind of runs, with theta as it was and as it has become.
    config = replace(
        TINY,
        rule="LSTM:hidden=4,layers=1",
        families=("mlp:width=4,depth=1,batch=32",),
        problems=4,
        steps=16,
        truncation=5,
        lengths=Lengths(10, 10),
        unroll=UnrollOptions(lr=0.05),
        outer=OuterOptions(lr=0.03, warmup=1),
    )
    trainer = MetaTrainer(config, alone)
    losses = [trainer.step().meta_loss for _ in range(config.steps)]
    fresh = MetaTrainer(replace(config, outer=OuterOptions(lr=1e-12)), alone)
    unlearned = [fresh.step().meta_loss for _ in range(config.steps)]
    assert sum(losses[-5:]) < 0.97 * sum(unlearned[-5:])


def test_trainer_resumes_bitwise_through_plain_data(alone):
    trainer = MetaTrainer(TINY, alone)
    for _ in range(3):
        trainer.step()
    state = deepcopy(trainer.state_dict())
    other = MetaTrainer(TINY, alone)
    other.load_state_dict(state)
    reports = [(trainer.step(), other.step()) for _ in range(4)]
    assert all(ours == theirs for ours, theirs in reports)
    for name, weight in theta(trainer).items():
        assert torch.equal(weight, theta(other)[name])
    assert other.inner_steps == trainer.inner_steps


def test_checkpoints_of_earlier_versions_call_stacks_slots(alone):
    trainer = MetaTrainer(TINY, alone)
    trainer.step()
    state = deepcopy(trainer.state_dict())
    state["slots"] = state.pop("stacks")
    other = MetaTrainer(TINY, alone)
    other.load_state_dict(state)
    assert other.step() == trainer.step()


def test_diverging_runs_are_counted_and_meta_training_goes_on(alone):
    config = replace(TINY, rule="LSTM", unroll=UnrollOptions(lr=1e6, diverged_above=2.0))
    trainer = MetaTrainer(config, alone)
    reports = [trainer.step() for _ in range(4)]
    assert sum(report.diverged for report in reports) > 0
    assert all(torch.isfinite(weight).all() for weight in theta(trainer).values())
    assert all(report.meta_loss <= config.meta_loss.ceiling for report in reports)


def test_a_run_goes_on_only_with_the_options_it_was_begun_with(alone):
    config = replace(TINY, outer=replace(TINY.outer, factors={"head": 3.0}))
    state = MetaTrainer(config, alone).state_dict()
    MetaTrainer(replace(config, steps=99, keep=1), alone).load_state_dict(state)
    with pytest.raises(MetaTrainError, match="problems: 2, now 3"):
        MetaTrainer(replace(config, problems=3), alone).load_state_dict(state)
    with pytest.raises(MetaTrainError, match=r"'head': 3\.0"):
        MetaTrainer(TINY, alone).load_state_dict(state)


def test_stacks_must_be_shared_evenly(alone):
    alone.size = 3
    with pytest.raises(MetaTrainError, match="2 stacks cannot be shared evenly among 3"):
        MetaTrainer(TINY, alone)


def test_configuration_is_readable_json():
    data = json.loads(as_json(TINY))
    assert data["lengths"] == {"shortest": 2, "longest": 8}
    assert data["folder"] == "runs/default"
