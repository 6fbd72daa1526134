import json

import pytest
import torch

import ngopt
from meta_train import checkpoint
from meta_train.errors import MetaTrainError
from meta_train.rules import newest, rule_in, rule_of
from ngopt.errors import RuleError
from ngopt.rules import LSTM, Adam, MatrixGNN
from ngopt.rules.tensor_rule import TensorRule


def state_of(rule):
    """What a checkpoint tells of a rule."""
    described = {"class": type(rule).__name__, "config": json.dumps(rule.config)}
    described["lr"] = 0.25
    return {"rule": described, "theta": dict(rule.state_dict())}


def moved(rule):
    """The rule with other weights than fresh ones."""
    with torch.no_grad():
        for weight in rule.parameters():
            weight.add_(torch.rand_like(weight))
    return rule


def same(one, other):
    return (
        type(one) is type(other)
        and one.config == other.config
        and all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())
    )


@pytest.mark.parametrize("name", sorted(set(ngopt.rules.__all__) - {"Rule"}))
def test_every_class_by_its_name(name):
    assert same(rule_of(name), getattr(ngopt.rules, name)())


def test_options():
    rule = rule_of("MatrixGNN:rounds=1,graph_context=False,momentum_dtype=float32")
    assert same(rule, MatrixGNN(rounds=1, graph_context=False, momentum_dtype="float32"))
    assert rule_of("Adam:betas=0.5|0.75").config == Adam(betas=(0.5, 0.75)).config


def test_names_of_ngopt():
    assert same(rule_of("default"), ngopt.load_rule("default"))


def test_files(tmp_path):
    rule = moved(LSTM(hidden=2))
    ngopt.save_rule(rule, tmp_path / "mine.safetensors")
    assert same(rule_of(str(tmp_path / "mine.safetensors")), rule)


def test_learning_rate_of_a_run(tmp_path):
    assert rule_in(state_of(LSTM(hidden=2))).lr == 0.25


def test_runs(tmp_path):
    old, new = moved(LSTM(hidden=2)), moved(LSTM(hidden=2))
    checkpoint.save(tmp_path, 10, state_of(old))
    checkpoint.save(tmp_path, 20, state_of(new))
    assert same(rule_of(str(tmp_path)), new)
    assert newest(tmp_path)["rule"]["class"] == "LSTM"


def test_folder_without_checkpoints(tmp_path):
    with pytest.raises(MetaTrainError, match=f"no checkpoint in `{tmp_path}`"):
        rule_of(str(tmp_path))


@pytest.mark.parametrize("text", ["Adan", "Rule", "adam:eps=1", "no/such/folder"])
def test_unknown_rules_end_with_the_list(text):
    with pytest.raises(MetaTrainError, match=f"no rule `{text}`") as error:
        rule_of(text)
    assert "MatrixGNN" in str(error.value)
    assert "default" in str(error.value)
    assert "TensorRule" not in str(error.value)


def test_unknown_options_end_with_those_there_are():
    with pytest.raises(MetaTrainError, match="LSTM:widht=3") as error:
        rule_of("LSTM:widht=3")
    assert "Options of LSTM: hidden, layers, p, seed." in str(error.value)


def test_options_that_a_base_class_takes_are_listed_too():
    with pytest.raises(MetaTrainError) as error:
        rule_of("DeepSets:widht=3")
    for name in ("width", "layers", "recipe", "positions", "seed"):
        assert name in str(error.value).partition("Options of DeepSets:")[2]
    assert "options" not in str(error.value).partition("Options of DeepSets:")[2]


def test_options_that_make_no_sense():
    with pytest.raises(RuleError, match="eps=-1"):
        rule_of("Adam:eps=-1")
    with pytest.raises(MetaTrainError, match="MatrixGNN:width=wide"):
        rule_of("MatrixGNN:width=wide")


def test_missing_file():
    with pytest.raises(RuleError, match=r"no file `nowhere\.safetensors`"):
        rule_of("nowhere.safetensors")


def test_rules_of_ones_own():
    class Own(TensorRule):
        config = {"l2": 0.0}  # noqa: RUF012

        def __init__(self, l2=0.0):
            super().__init__()
            self.l2 = l2

        def begin(self, parameter, layout):
            return {}

        def advance(self, parameter, gradient, state, layout):
            return gradient, {}

    assert rule_of("Own:l2=0.5").l2 == 0.5
    assert type(rule_in(state_of(Own()))) is Own


def test_checkpoint_of_a_class_that_is_not_imported():
    state = state_of(Adam())
    state["rule"]["class"] = "Elsewhere"
    with pytest.raises(MetaTrainError, match=r"Elsewhere(.|\n)*Adam"):
        rule_in(state)


def test_a_word_in_place_of_a_number_is_refused():
    with pytest.raises(MetaTrainError, match="rounds=abc is not a number"):
        rule_of("MatrixGNN:rounds=abc")
