import copy
import json

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from ngopt.errors import GraphError, OptionError, RuleError
from ngopt.graph.trace import trace
from ngopt.optim.checkpoint import KEY, Extra, identity, read
from ngopt.optim.joined_graph import EMPTY
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.library import load_rule
from tests.contract import Small, assert_same, batch, copy_of, flat_state, train


def test_plain_data_there_and_back():
    model = Small()
    graph, tensors = trace(model, batch()[0]), dict(model.named_parameters())
    plain = Extra(list(tensors), graph, 3).as_plain(Adam())
    assert read(json.loads(json.dumps(plain)), tensors, Adam()) == Extra(list(tensors), graph, 3)


def test_the_graph_is_read_under_the_names_of_the_optimizer():
    model = Small()
    graph, tensors = trace(model, batch()[0]), dict(model.named_parameters())
    plain = Extra(list(tensors), graph, 0).as_plain(Adam())
    own = {f"tensor:{i}": tensor for i, tensor in enumerate(tensors.values())}
    found = read(plain, own, Adam())
    assert found.names == list(own)
    assert found.graph.hidden == graph.hidden
    position = list(tensors).index("linear.weight")
    renamed = found.graph.layout(f"tensor:{position}").bundles[0]
    assert renamed.factors == graph.layout("linear.weight").bundles[0].factors
    assert found.graph.layout("norm.running_mean").buffer


def test_identity_depends_on_the_weights():
    first, second = load_rule("default"), load_rule("default")
    assert identity(first) == identity(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0] += 1
    assert identity(first)["weights"] != identity(second)["weights"]
    assert identity(first)["config"] == identity(second)["config"]


def _saved(rule=None):
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=rule or Adam())
    train(model, optimizer, 1)
    return copy.deepcopy(optimizer.state_dict())


def _other_version(saved):
    saved[KEY]["version"] = 99


def _damaged_graph(saved):
    del saved[KEY]["graph"]["spaces"]


def _other_shapes(saved):
    model = nn.Sequential(nn.Linear(3, 3))
    model(torch.ones(1, 3))
    plain = Extra(["0.weight"] + ["x"] * 6, trace(model, torch.ones(1, 3)), 0).as_plain(Adam())
    saved[KEY] = plain


def _other_count(saved):
    saved[KEY]["names"].pop()


def _foreign_state(saved):
    del saved[KEY]
    for state in saved["state"].values():
        state["momentum_buffer"] = state.pop("exp_avg")


def _turned_state(saved):
    state = next(kept for kept in saved["state"].values() if kept["exp_avg"].dim() == 2)
    state["exp_avg"] = state["exp_avg"].T


def _no_tensor(saved):
    saved["state"][0]["exp_avg"] = "0.5"


def _no_state(saved):
    saved["state"][0] = [1, 2]


def _other_rule(saved):
    saved[KEY]["rule"] = identity(Adam(eps=1e-3))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_other_version, OptionError, "version 99; this ngopt reads version 1"),
        (_damaged_graph, GraphError, "does not describe a graph"),
        (_other_shapes, GraphError, "but the tensor has shape"),
        (_other_count, GraphError, "state of 6 parameters into an optimizer of 7"),
        (_foreign_state, RuleError, r"it holds \['exp_avg_sq', 'momentum_buffer', 'step'\]"),
        (_turned_state, GraphError, r"\(`exp_avg`\) has the shape \(4, 3\), but .* has \(3, 4\)"),
        (_no_tensor, RuleError, "`exp_avg` is a str, no tensor"),
        (_no_state, RuleError, r"it holds \[1, 2\], but the rule Adam"),
        (_other_rule, RuleError, r"rule Adam.*0\.001.* into an optimizer with Adam.*1e-08"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(damage, error, message):
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    train(model, optimizer, 2)
    before, graph = copy.deepcopy(flat_state(optimizer)), optimizer.graph
    saved = _saved()
    damage(saved)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(saved)
    assert_same(before, flat_state(optimizer))
    assert optimizer.graph == graph
    optimizer.load_state_dict(_saved())


def test_the_state_of_torchs_adam_goes_into_our_adam():
    model, other = Small(), Small()
    theirs = torch.optim.Adam(model.parameters())
    train(model, theirs, 2)
    other.load_state_dict(model.state_dict())
    ours = NeuralGraphOptimizer(other.parameters(), rule=Adam())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(model, theirs, 2, start=2)
    train(other, ours, 2, start=2)
    torch.testing.assert_close(copy_of(model), copy_of(other), rtol=0, atol=1e-6)


def test_other_weights_of_the_rule_are_a_warning():
    rule = load_rule("default")
    saved = _saved(rule)
    with torch.no_grad():
        next(rule.parameters()).view(-1)[0] += 1
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=rule)
    with pytest.warns(UserWarning, match="other weights of the rule"):
        optimizer.load_state_dict(saved)
    assert optimizer.state


def test_state_keeps_its_dtype_and_is_a_copy():
    model = Small().bfloat16()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    train(model, optimizer, 1)
    saved = optimizer.state_dict()
    other = NeuralGraphOptimizer(Small().bfloat16().parameters(), rule=Adam())
    other.load_state_dict(saved)
    assert {tensor.dtype for tensor in flat_state(other).values()} == {torch.float32}
    assert_same(flat_state(optimizer), flat_state(other))
    for tensor in flat_state(other).values():
        tensor.add_(1)
    assert all(not torch.equal(a, flat_state(other)[k]) for k, a in flat_state(optimizer).items())


def test_the_state_of_parameters_without_any_survives():
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    saved = optimizer.state_dict()
    saved["state"]["global"] = {"note": 1}
    optimizer.load_state_dict(saved)
    assert optimizer.state["global"] == {"note": 1}


def test_distributed_checkpoints_keep_the_state():
    model, other = Small(), Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    train(model, optimizer, 2)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    assert "linear.weight" in saved["state"]
    other.load_state_dict(model.state_dict())
    resumed = NeuralGraphOptimizer(other.parameters(), rule=Adam())
    set_optimizer_state_dict(other, resumed, saved)
    assert_same(flat_state(optimizer), flat_state(resumed))
    train(model, optimizer, 2, start=2)
    train(other, resumed, 2, start=2)
    assert_same(copy_of(model), copy_of(other))


def test_nothing_is_known_of_lone_tensors():
    assert Extra([], EMPTY, 0).as_plain(Adam())["graph"]["layouts"] == []


def test_a_state_saved_with_old_names_of_options_is_loaded():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    config = saved[KEY]["rule"]["config"]
    config["skeleton"] = config.pop("base_update")
    NeuralGraphOptimizer(Small()).load_state_dict(saved)
