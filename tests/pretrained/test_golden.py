import json

import pytest
import torch

from ngopt.rules.library import fingerprint, list_rules, load_rule
from tests.pretrained.golden import FILE, STEPS, make_model, trajectory

GOLDEN = json.loads(FILE.read_text())

every_name = pytest.mark.parametrize("name", list_rules())


def compare(rule, name, steps=STEPS):
    """Raise if the rule does not do what it did."""
    expected, found = GOLDEN[name]["trajectory"], trajectory(rule, steps)
    assert found.keys() == expected.keys()
    for part, values in expected.items():
        wanted, got = (torch.tensor(v, dtype=torch.float64) for v in (values[:steps], found[part]))
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-9, msg=f"`{part}` differs")


def test_each_rule_has_a_trajectory():
    assert sorted(GOLDEN) == list_rules()


@every_name
def test_trajectory_is_of_the_weights_that_are_shipped(name):
    assert GOLDEN[name]["sha256"] == fingerprint(load_rule(name).state_dict()), (
        "Weights were replaced: write golden.json anew by `python -m tests.pretrained.golden`."
    )


@every_name
def test_rule_does_what_it_did(name):
    compare(load_rule(name), name)


@every_name
@pytest.mark.parametrize("size", [1e-2, -1e-2], ids=["more", "less"])
def test_a_small_change_of_theta_makes_a_difference(name, size):
    rule = load_rule(name)
    with torch.no_grad():
        for weight in rule.parameters():
            weight.add_(size)
    with pytest.raises(AssertionError, match="differs"):
        compare(rule, name, 4)


@every_name
def test_another_learning_rate_makes_a_difference(name):
    rule = load_rule(name)
    rule.lr *= 1.001
    with pytest.raises(AssertionError, match="differs"):
        compare(rule, name, 4)


def test_the_model_needs_no_random_numbers():
    torch.manual_seed(1)
    first = make_model().state_dict()
    torch.manual_seed(2)
    second = make_model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
