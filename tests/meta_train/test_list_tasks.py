import math

import pytest
import torch

from meta_train import list_tasks
from meta_train.errors import MetaTrainError
from meta_train.list_tasks import TasksOptions, describe, example_of, run_tasks, untrained
from meta_train.tasks.family import FAMILIES, family_of
from tests.meta_train.small_tasks import Quadratic


def test_family_with_its_options_and_an_example():
    lines = describe(family_of("mlp:width=8,depth=1|1")).splitlines()
    assert lines[0] == "mlp: Fully connected classifiers."
    assert "  width = 8" in lines
    assert "  depth = 1|1" in lines
    assert "  data = digits" in lines
    example = lines.index(next(line for line in lines if "for example mlp(" in line))
    figures = lines[example + 1]
    assert f"{64 * 8 + 8 + 8 * 10 + 10} weights, 4 bundles, 1 hidden spaces" in figures
    assert abs(float(figures.rpartition(" ")[2]) - math.log(10)) < 0.3


def test_loss_of_the_untrained_model():
    # From 0, the quadratic with these targets and curvatures.
    expected = 0.5 * (1.0 * 1.0 + 0.5 * 4.0 + 2.0 * 0.25 + 0.8 * 2.25)
    assert math.isclose(untrained(Quadratic(), 0), expected)
    assert f"untrained loss {expected:.4g}" in example_of(Quadratic())


def test_seed_draws_the_example():
    family = FAMILIES["mlp"]()
    assert describe(family, 0) == describe(family, 0)
    assert len({describe(family, seed) for seed in range(4)}) > 1


def test_missing_data(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    text = describe(family_of("mlp:data=cifar10"))
    assert "no example: there is no file" in text
    assert "width = " in text


def test_lists_all_families_by_default(monkeypatch):
    names = ["quadratic", "mlp"]
    monkeypatch.setattr(list_tasks, "FAMILIES", {name: FAMILIES[name] for name in names})
    texts = []
    run_tasks(TasksOptions(), texts.append)
    assert [text.partition(":")[0] for text in texts] == ["mlp", "quadratic"]


def test_lists_those_asked_for():
    texts = []
    run_tasks(TasksOptions(("quadratic:size=2", "quadratic:size=3")), texts.append)
    assert ["size = 2" in text for text in texts] == [True, False]


def test_unknown_family():
    with pytest.raises(MetaTrainError, match="no family `mpl`"):
        run_tasks(TasksOptions(("mpl",)), pytest.fail)


def test_families_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "listed_family.py").write_text(
        "from meta_train.tasks.family import FAMILIES\nFAMILIES['listed'] = FAMILIES['quadratic']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    texts = []
    try:
        run_tasks(TasksOptions(("listed:size=2",), imports=("listed_family",)), texts.append)
    finally:
        FAMILIES.pop("listed", None)
    assert "Random quadratics" in texts[0]


def test_the_random_state_is_left_alone():
    before = torch.get_rng_state()
    describe(family_of("mlp:width=8,depth=1"))
    assert torch.equal(torch.get_rng_state(), before)
