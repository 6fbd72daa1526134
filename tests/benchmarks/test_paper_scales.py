import pytest

from benchmarks.paper_scales import METHODS, SCALES, networks
from meta_train.rules import rule_of
from meta_train.tasks.family import family_of


@pytest.mark.parametrize("scale", SCALES)
def test_every_method_that_is_meta_trained_is_so_on_fashion_mnist(scale):
    scale = SCALES[scale]
    assert {"adam", "default", *scale.configs} == set(METHODS)
    known = next(network for network in scale.networks if network.name == "FashionMNIST")
    for config in scale.configs.values():
        (family,) = config.families
        assert family_of(family) == family_of(known.family)


@pytest.mark.parametrize("scale", SCALES)
def test_columns(scale):
    names = [network.name for network in SCALES[scale].networks]
    assert len(set(names)) == len(names)
    assert {network.table for network in SCALES[scale].networks} == set(SCALES[scale].budgets)
    assert names[:2] == ["FashionMNIST", "CIFAR-10"]
    assert len(names) == 2 + 5 + 5


def test_full_scale_is_the_papers():
    scale = SCALES["full"]
    for name, config in scale.configs.items():
        inner = config.steps * config.truncation * config.problems * config.stacks
        assert inner == 100_000, name
        if name != "matrix_gnn":
            assert config.estimator == "greedy"
            assert rule_of(config.rule).config["recipe"]["name"] == "paper"
    unseen = family_of(scale.networks[1].family)
    assert (unseen.size, unseen.width, unseen.depth, unseen.batch) == ((32,), (32,), (3,), (128,))
    assert all(budget.steps == 1000 and budget.problems == 5 for budget in scale.budgets.values())


def test_transfer_is_over_width_and_depth():
    transfer = {n.name: family_of(n.family) for n in networks((28, 32), (16, 32), 8)[2:]}
    assert transfer["width 128"].width == (128,)
    assert transfer["width 128"].depth == (3,)
    assert transfer["depth 5"].depth == (5,)
    assert {family.size for family in transfer.values()} == {(8,)}
    assert {family.width for name, family in transfer.items() if "depth" in name} == {(32,)}
