from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import FAMILIES, Family, family_of, register
from meta_train.tasks.mlp import MLP
from meta_train.tasks.rosenbrock import RosenbrockTask


@pytest.fixture
def forgotten():
    """Forget the families that a test registers."""
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


def declared():
    @dataclass(frozen=True)
    class Slopes(Family):
        size: tuple[int, ...] = (2, 3, 4)
        steepness: tuple[float, ...] = (1.0, 2.0)

        def task(self, size, steepness):
            return RosenbrockTask(size, steepness)

    return Slopes


def test_each_combination_is_as_likely_as_the_others(forgotten):
    family, generator = register("slopes")(declared())(), torch.Generator().manual_seed(0)
    drawn = [family.sample(generator) for _ in range(1200)]
    counts = Counter((task.size, task.steepness) for task in drawn)
    assert len(counts) == 6
    # 200 are expected, with a standard deviation of 13.
    assert all(150 < count < 250 for count in counts.values())


def test_a_family_of_one_s_own_is_known_by_its_name(forgotten):
    register("slopes")(declared())
    task = family_of("slopes:size=7,steepness=3").sample(torch.Generator())
    assert task.name == "slopes(size=7, steepness=3)"
    assert (task.size, task.steepness) == (7, 3)


def test_a_name_cannot_be_taken_twice(forgotten):
    register("slopes")(declared())
    with pytest.raises(MetaTrainError, match="there is a family `mlp` already"):
        register("mlp")(declared())
    assert FAMILIES["mlp"] is MLP


def test_a_module_that_is_loaded_again_registers_again(forgotten):
    register("slopes")(declared())
    again = register("slopes")(declared())
    assert FAMILIES["slopes"] is again


def test_options_become_choices():
    family = family_of("mlp:width=8|24,data=digits,activation=relu|tanh")
    assert family == MLP(width=(8, 24), data=("digits",), activation=("relu", "tanh"))
    assert family_of("mlp") == MLP()


def test_an_unknown_family():
    with pytest.raises(MetaTrainError, match=r"no family `resnet`.\n  Use one of: .*mlp.*imports"):
        family_of("resnet:width=8")


def test_an_unknown_option():
    with pytest.raises(MetaTrainError, match=r"`mlp` has no option 'widht'.\n.*data, size, width"):
        family_of("mlp:widht=8")


@pytest.mark.parametrize(
    "text",
    ["mlp:width=wide", "mlp:width=8|8.5", "mlp:data=8", "mlp:width=True", "quadratic:rotated=1"],
)
def test_an_option_of_another_kind(text):
    with pytest.raises(MetaTrainError, match=r"the option \w+ of `\w+` cannot be .*\n.*defaults"):
        family_of(text)


def test_whole_numbers_do_for_fractions():
    assert family_of("quadratic:condition=10").condition == (10,)


def test_fields_without_defaults_take_anything(forgotten):
    @register("bare")
    @dataclass(frozen=True)
    class Bare(Family):
        size: tuple

    assert family_of("bare:size=x|1").size == ("x", 1)
