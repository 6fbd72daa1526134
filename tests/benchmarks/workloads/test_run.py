import math

import pytest
import torch
from torch.optim import AdamW

from benchmarks.workloads.optimizers import OPTIMIZERS
from benchmarks.workloads.run import Result, early_rise, evaluating, run
from benchmarks.workloads.workload import Recipe
from tests.benchmarks.workloads.toy import STEPS, Toy, toy


def result(name="recipe", seed=0, training=None, every=3):
    training = training or Toy(seed)
    return run(toy(), training, name, OPTIMIZERS[name], seed, STEPS, every)


def test_metric_is_taken_every_so_many_steps_and_at_the_end():
    found = result()
    assert found.at == [3, 6, 8]
    assert len(found.losses) == STEPS
    assert found.seconds == sorted(found.seconds)
    assert found.diverged is None
    assert found.metrics[-1] < found.metrics[0]


@pytest.mark.parametrize("name", ["recipe", "ngopt"])
def test_same_seed_gives_the_same_losses(name):
    first, second, other = result(name), result(name), result(name, seed=1)
    assert (first.losses, first.metrics) == (second.losses, second.metrics)
    assert first.losses != other.losses


def test_evaluations_change_nothing():
    assert result(every=1).losses == result(every=8).losses


def test_optimizers_start_from_the_same_weights_batches_and_dropout():
    assert result("ngopt").losses[0] == result("adamw_default").losses[0]


def test_schedule_reaches_its_end():
    training = Toy(0)
    kept = []

    def build(model, recipe, steps):
        kept.append(AdamW(recipe.groups(model), lr=recipe.lr))
        return kept[-1], recipe.schedule

    run(toy(), training, "recipe", build, 0, STEPS, 3)
    assert [group["lr"] for group in kept[0].param_groups] == [0.0, 0.0]


class Bad(Toy):
    """Its loss is not a number at the fifth step."""

    count = 0

    def loss(self):
        self.count += 1
        return super().loss() * (math.nan if self.count == 5 else 1.0)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    found = result(training=Bad(0))
    assert found.diverged == 5
    assert found.at == [3, 5]
    assert found.metrics[0] is not None
    assert found.metrics[1] is None
    assert found.losses[4] is None
    assert found.early is None
    found.write(tmp_path / "folder" / "a.json")
    assert Result.read(tmp_path / "folder" / "a.json") == found


def test_early_rise():
    assert early_rise([2.0, 1.0, 5.0]) == 2.5
    assert early_rise([1.0] * 50 + [9.0]) == 1.0
    assert early_rise([-1.0, 2.0]) is None
    assert early_rise([1.0, math.inf]) is None


def test_schedule_free_is_evaluated_at_its_average_and_goes_on_where_it_was():
    pytest.importorskip("pytorch_optimizer")
    training = Toy(0)
    optimizer, _ = OPTIMIZERS["schedule_free"](*training.recipes[0], STEPS)
    for _ in range(3):
        training.step([optimizer])
    weight, norm = training.model[0].weight, training.model[1]
    before, mean = weight.detach().clone(), norm.running_mean.clone()
    with evaluating(training, [optimizer]):
        assert not torch.allclose(weight, before)
        assert not norm.running_mean.equal(mean)
    torch.testing.assert_close(weight, before)


class Two(Toy):
    """Two models in turn, each with an optimizer of its own."""

    def __init__(self, seed):
        super().__init__(seed)
        self.other = Toy(seed + 1)
        self.recipes = [(self.model, Recipe(AdamW, 0.1)), (self.other.model, Recipe(AdamW, 0.0))]

    def step(self, optimizers):
        first, second = optimizers
        loss = super().step([first])
        self.other.step([second])
        return loss


def test_each_model_has_an_optimizer_of_its_own_recipe():
    training, fresh = Two(0), Two(0)
    result(training=training)
    assert not training.model[0].weight.equal(fresh.model[0].weight)
    assert training.other.model[0].weight.equal(fresh.other.model[0].weight)
