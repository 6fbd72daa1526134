"""The rules and cards in `ngopt/pretrained`."""

import re

import pytest

from ngopt.rules.cards import rule_card
from ngopt.rules.library import PRETRAINED, fingerprint, list_rules, load_rule

every_name = pytest.mark.parametrize("name", list_rules())

KEYS = {
    *("rule", "config", "lr", "weights", "sha256"),
    *("command", "commit", "torch", "seed", "tasks", "cost", "meta_training"),
    *("results", "known_weaknesses"),
}


def test_nothing_else_is_there():
    files = sorted(path.name for path in PRETRAINED.iterdir())
    assert files == sorted(f"{n}.{kind}" for n in list_rules() for kind in ("json", "safetensors"))


@every_name
def test_card_is_of_its_file(name):
    rule, card = load_rule(name), rule_card(name)
    assert card["rule"] == type(rule).__name__
    assert type(rule)(**card["config"]).config == rule.config
    assert card["lr"] == rule.lr
    assert card["weights"] == sum(weight.numel() for weight in rule.parameters())
    assert card["sha256"] == fingerprint(rule.state_dict())


@every_name
def test_card_is_complete(name):
    card = rule_card(name)
    assert card.keys() == KEYS
    assert card["cost"].keys() >= {"outer_steps", "inner_steps", "seconds"}
    assert bool(card["tasks"]) == bool(card["cost"]["outer_steps"])
    assert card["known_weaknesses"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", card["commit"])


@every_name
def test_card_names_no_folder_of_a_machine(name):
    text = (PRETRAINED / f"{name}.json").read_text(encoding="utf-8")
    assert not re.findall(r'(?<![\w.:/])/[a-z]\w+/[^"\s]*', text)


@every_name
def test_file_is_small(name):
    size = sum((PRETRAINED / f"{name}.{kind}").stat().st_size for kind in ("json", "safetensors"))
    assert size < 2**20
