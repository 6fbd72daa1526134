from dataclasses import fields

import pytest

import ngopt.rules
from meta_train.config import Config
from meta_train.presets import PRESETS
from meta_train.rules import rule_of
from meta_train.suites import SUITES
from meta_train.tasks.family import family_of

HAND_WRITTEN = {"Adam", "SGDM", "Muon"}


def test_every_shipped_rule_that_learns_has_a_preset():
    learned = {type(rule_of(config.rule)).__name__ for config in PRESETS.values()}
    rules = {
        name
        for name in ngopt.rules.__all__
        if isinstance(cls := getattr(ngopt.rules, name), type)
        and issubclass(cls, ngopt.rules.Rule)
        and not cls.__abstractmethods__
    }
    assert rules - HAND_WRITTEN == learned


@pytest.mark.parametrize("name", ["pretrained", "at_scale"])
def test_what_is_learned_for_the_wheel_has_the_base_update_of_its_rule(name):
    assert rule_of(PRESETS[name].rule).base_update == ngopt.load_rule("default").base_update


@pytest.mark.parametrize("name", PRESETS)
def test_preset_builds_its_rule_and_families(name):
    config = PRESETS[name]
    assert config.preset == name
    assert config.folder.name == name
    assert any(weight.requires_grad for weight in rule_of(config.rule).parameters())
    assert all(family_of(text) for text in config.families)


def test_presets_differ_from_the_plain_configuration():
    assert PRESETS["smoke"].steps < Config().steps
    assert PRESETS["paper_ng_gnn"].estimator == "greedy"
    assert PRESETS["paper_ng_gnn"].unroll.measure == "same"


def test_small_presets_of_the_paper_are_shorter_and_on_smaller_images():
    papers = [name for name in PRESETS if name.startswith("paper_")]
    assert len(papers) == 6
    for name in papers:
        full, small = PRESETS[name], PRESETS[f"small_{name}"]
        cost, small_cost = (c.steps * c.truncation * c.problems for c in (full, small))
        assert small_cost < cost
        (family,), (small_family,) = full.families, small.families
        assert family_of(small_family).size < family_of(family).size
        assert small.estimator == full.estimator
        assert small.rule.partition(":")[0] == full.rule.partition(":")[0]


@pytest.mark.parametrize("name", ["sizes", "at_scale"])
def test_no_task_of_a_suite_is_meta_trained_on(name):
    families = [family_of(text) for text in PRESETS[name].families]
    for entry in (entry for suite in SUITES.values() for entry in suite):
        task = family_of(entry.family)
        for family in (family for family in families if type(family) is type(task)):
            drawn = [getattr(family, field.name) for field in fields(family)]
            own = [getattr(task, field.name)[0] for field in fields(task)]
            assert any(value not in some for value, some in zip(own, drawn, strict=True)), entry
