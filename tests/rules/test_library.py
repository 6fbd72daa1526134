import json
import random
import time
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ngopt.errors import RuleError
from ngopt.rules import library
from ngopt.rules.adam import Adam
from ngopt.rules.cards import rule_card
from ngopt.rules.library import (
    current_config,
    current_spec,
    fingerprint,
    list_rules,
    load_rule,
    rule_path,
    save_rule,
)
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import MLP, randomize, warm
from tests.rules.table import every_rule


@pytest.fixture
def path(tmp_path):
    save_rule(randomize(MatrixGNN(width=4, hidden=2, base_update={"trust": 0.5})), tmp_path / FILE)
    return tmp_path / FILE


FILE = "rule.safetensors"


def rewrite(path, theta=None, **changes):
    """Save the file again with other tensors or metadata; `None` removes an item."""
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
    tensors = load_file(path) if theta is None else theta
    if theta is not None:
        metadata["sha256"] = library.fingerprint(theta)
    save_file(tensors, path, {k: v for k, v in metadata.items() if v is not None})


def same(a, b):
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(m == n and torch.equal(s, t) for (m, s), (n, t) in pairs)


def test_default_is_the_same_everywhere():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_rule("default")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, load_rule("default"))


def test_default_is_what_its_card_says():
    rule, card = load_rule("default"), rule_card("default")
    assert isinstance(rule, MatrixGNN)
    untrained = card["cost"]["outer_steps"] == 0
    assert same(rule, MatrixGNN(**rule.config)) == untrained


@pytest.mark.parametrize("name", list_rules())
def test_every_listed_rule_loads_as_another_object_each_time(name):
    rule, expected = load_rule(name), load_rule(name)
    with torch.no_grad():
        for weight in rule.parameters():
            weight.add_(1)
    rule.lr *= 2
    assert same(load_rule(name), expected)
    assert not same(load_rule(name), rule)
    assert load_rule(name).lr == expected.lr


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_round_trip(path, kind):
    expected = randomize(MatrixGNN(width=4, hidden=2, base_update={"trust": 0.5}))
    loaded = load_rule(kind(path))
    assert isinstance(loaded, MatrixGNN)
    assert loaded.config == expected.config
    assert same(loaded, expected)
    assert not same(loaded, MatrixGNN(**expected.config))


@every_rule
def test_every_rule_is_saved_and_loaded(make, tmp_path):
    rule = randomize(make())
    save_rule(rule, tmp_path / FILE)
    loaded = load_rule(tmp_path / FILE)
    assert type(loaded) is type(rule)
    assert loaded.config == rule.config
    assert same(loaded, rule)
    with torch.no_grad():
        expected, found = (item(*warm(item, MLP), MLP) for item in (rule, loaded))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@every_rule
def test_files_of_every_rule_are_checked(make, tmp_path):
    path = tmp_path / FILE
    rule = make()
    save_rule(rule, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(RuleError, match="is damaged"):
        load_rule(path)
    path.write_bytes(whole)
    rewrite(path, config=json.dumps({**rule.config, "flavour": "mint"}))
    with pytest.raises(RuleError, match=r"does not tell how to build its `\w+` .*flavour"):
        load_rule(path)
    rewrite(path, {**rule.state_dict(), "more": torch.zeros(2)}, config=json.dumps(rule.config))
    with pytest.raises(RuleError, match=r"do not fit a .*`more` is \(2,\), should be absent"):
        load_rule(path)


def test_files_of_the_library_go_by_their_names(path, monkeypatch):
    monkeypatch.setattr(library, "PRETRAINED", path.parent)
    assert list_rules() == ["rule"]
    assert same(load_rule("rule"), load_rule(path))
    assert rule_path("rule") == rule_path(path) == path
    with pytest.raises(RuleError, match=r"(?s)no rule `default`.*Use one of: rule;"):
        load_rule("default")


def test_saving_leaves_the_rule_alone(path):
    rule = load_rule(path).double()
    save_rule(rule, path)
    assert next(rule.parameters()).dtype == torch.float64
    assert same(load_rule(path), rule.float())


class _Mine(Adam):
    """A rule that is defined outside of the library."""


@pytest.mark.parametrize("cls", [Adam, _Mine])
def test_other_classes(cls, tmp_path):
    save_rule(cls(betas=(0.5, 0.9)), tmp_path / FILE)
    loaded = load_rule(tmp_path / FILE)
    assert type(loaded) is cls
    assert loaded.config["betas"] == (0.5, 0.9)


def test_unknown_name():
    with pytest.raises(RuleError, match=r"(?s)no rule `adamant`.*Use one of: .*default"):
        load_rule("adamant")


def test_missing_file(tmp_path):
    with pytest.raises(RuleError, match=r"(?s)no file `.*rule\.safetensors`.*Known rules"):
        load_rule(tmp_path / FILE)


def test_saving_under_another_ending(tmp_path):
    with pytest.raises(RuleError, match=r"ends in \.safetensors"):
        save_rule(MatrixGNN(), tmp_path / "rule.pt")


def test_a_failure_while_saving_leaves_what_was_there(path, monkeypatch):
    before = path.read_bytes()

    def full(to, content):
        with to.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        save_rule(MatrixGNN(), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def save_for_ever(path, written):
    for seed in count():
        save_rule(MatrixGNN(width=64, seed=seed), path)
        written.set()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_rule_is_whole_whenever_its_writer_is_killed(tmp_path):
    chance, fork = random.Random(0), get_context("fork")
    for _ in range(3):
        written = fork.Event()
        writer = fork.Process(target=save_for_ever, args=(tmp_path / FILE, written))
        writer.start()
        assert written.wait(60)
        time.sleep(0.2 * chance.random())
        writer.kill()
        writer.join()
        assert load_rule(tmp_path / FILE).width == 64


@pytest.mark.parametrize("keep", [0, 5, 200, -7])
def test_cut_off_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RuleError, match="is damaged"):
        load_rule(path)


def test_one_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RuleError, match="is damaged: its weights are not those that were saved"):
        load_rule(path)


def test_pickle_is_not_read(path):
    torch.save({"theta": torch.zeros(2)}, path)
    with pytest.raises(RuleError, match="is damaged"):
        load_rule(path)


def test_other_safetensors(path):
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(RuleError, match="format is None, not 'ngopt-rule-1'"):
        load_rule(path)


def test_unknown_class(path):
    rewrite(path, rule="Oracle")
    with pytest.raises(RuleError, match=r"(?s)holds a `Oracle`.*MatrixGNN.*Import the module"):
        load_rule(path)


@pytest.mark.parametrize(
    "config",
    [None, "{", "[]", json.dumps({"depth": 3}), json.dumps({"base_update": {"trust": 2}})],
    ids=str,
)
def test_config_that_builds_nothing(path, config):
    rewrite(path, config=config)
    with pytest.raises(RuleError, match="does not tell how to build its `MatrixGNN`"):
        load_rule(path)


def test_weights_of_another_size(path):
    rewrite(path, config=json.dumps({"width": 5, "hidden": 2}))
    with pytest.raises(
        RuleError,
        match=r"do not fit a MatrixGNN.*`head.in_neuron.weight` is \(4, 2\), should be \(5, 2\)",
    ):
        load_rule(path)


@pytest.mark.parametrize("change", ["remove", "add"])
def test_missing_and_surplus_weights(path, change):
    theta = load_file(path)
    if change == "remove":
        del theta["start.weight"]
    else:
        theta["more"] = torch.zeros(2)
    rewrite(path, theta)
    with pytest.raises(RuleError, match=r"is absent, should be|should be absent"):
        load_rule(path)


def test_fingerprint_tells_weights_apart():
    theta = MatrixGNN(seed=0).state_dict()
    same = {name: tensor.clone() for name, tensor in reversed(theta.items())}
    other = {**same, "head.output.weight": same["head.output.weight"] + 1e-7}
    assert fingerprint(theta) == fingerprint(same) != fingerprint(other)


def test_learning_rate_is_kept(path):
    assert load_rule(path).lr == MatrixGNN.lr
    rule = load_rule(path)
    rule.lr = 0.1 + 0.2
    save_rule(rule, path)
    assert load_rule(path).lr == 0.1 + 0.2
    rewrite(path, lr="fast")
    with pytest.raises(RuleError, match="does not tell how to build"):
        load_rule(path)


def test_old_names_of_options_are_read(path):
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    config["skeleton"] = config.pop("base_update")
    rewrite(path, config=json.dumps(config))
    assert load_rule(path).base_update.trust == 0.5
    nested = {"recipe": {"name": "safe", "skeleton": {"trust": 0.5}}}
    assert current_config(nested) == {"recipe": {"name": "safe", "base_update": {"trust": 0.5}}}


def test_old_names_of_options_in_text_are_read():
    old = "FF:recipe={'name': 'safe', 'skeleton': {'trust': 0.5}},skeleton=1"
    assert current_spec(old) == old.replace("skeleton", "base_update")
