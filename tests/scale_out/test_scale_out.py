"""Several processes must do what one does on the joint batch."""

import pytest
import torch
from torch import multiprocessing

from ngopt.errors import GraphError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.scale_out.work import (
    BY_SOME,
    OPTIONS,
    PROCESSES,
    RULES,
    SAVED,
    SOME,
    STEPS,
    full,
    go_on,
    graph_of,
    net,
    optimizer_of_words,
    train,
    train_on_words,
    words,
    work,
)

every_rule = pytest.mark.parametrize("rule", RULES)
by_all_and_some = pytest.mark.parametrize(
    ("rule", "processes"), [*((rule, PROCESSES) for rule in RULES), (BY_SOME, SOME)]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the checkpoints of all processes, and what they found."""
    folder = tmp_path_factory.mktemp("processes")
    # The processes are forks of one that imports everything once for all.
    preloaded = [work.__module__, "torch._dynamo"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)
    multiprocessing.start_processes(work, (str(folder),), PROCESSES, start_method="forkserver")
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def alone(rule, form="graph", loaded=False):
    """The parameters after the same steps of one process on whole batches."""
    model = net()
    given = {"graph": graph_of()} if form == "graph" else {}

    def build():
        return NeuralGraphOptimizer(model.parameters(), rule=RULES[rule](), **given, **OPTIONS)

    optimizer = build()
    train(model, optimizer, steps=SAVED)
    if loaded:
        saved, optimizer = optimizer.state_dict(), build()
        del saved["ngopt"]  # which torch's distributed checkpoints do not know
        optimizer.load_state_dict(saved)
    train(model, optimizer, start=SAVED, steps=STEPS - SAVED)
    return full(model)


def check(results, key, expected, rtol):
    """The first processes have the same parameters, to the last bit, and they are right."""
    found = [result[key]["params"] for result in results[: key[2]]]
    for other in found:
        assert all(map(torch.equal, other, found[0]))
    torch.testing.assert_close(found[0], expected, rtol=rtol, atol=rtol)


@by_all_and_some
def test_data_parallel(results, rule, processes):
    check(results, ("data parallel", rule, processes), alone(rule), 1e-6)


@by_all_and_some
def test_sharded(results, rule, processes):
    key = "sharded", rule, processes
    check(results, key, alone(rule), 1e-5)
    assert results[0][key]["hidden"] == [5]


@pytest.mark.parametrize("processes", [SOME, PROCESSES])
def test_sharded_in_single_precision_nothing_is_gathered(results, processes):
    model = words()
    optimizer = optimizer_of_words(model)
    train_on_words(model, optimizer)
    found = [result["not gathered", processes] for result in results[:processes]]
    for each in found:
        assert all(map(torch.equal, each["params"], found[0]["params"]))
        assert each["skipped"] == optimizer.skipped_steps == 1
        # Of three moments, its share of each, and a row more at most.
        assert each["held"] <= 3 * sum(
            p.numel() / processes + p[0].numel() for p in model.parameters()
        )
    torch.testing.assert_close(found[0]["params"], full(model), rtol=1e-5, atol=1e-5)


@every_rule
def test_state_is_sharded_like_its_parameter(results, rule):
    alike = results[0]["sharded", rule, PROCESSES]["alike"]
    assert alike
    assert all(alike)


@every_rule
def test_a_checkpoint_is_read_by_fewer_processes(results, rule):
    names = results[0]["written", rule, PROCESSES]["names"]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    check(results, ("read", rule, SOME), alone(rule, loaded=True), 1e-5)


@every_rule
def test_a_checkpoint_is_read_by_one_process(folder, results, rule):
    found = go_on(net(), RULES[rule](), str(folder / rule))["params"]
    torch.testing.assert_close(found, alone(rule, loaded=True), rtol=1e-5, atol=1e-5)


@every_rule
def test_zero_redundancy_sees_each_tensor_by_itself(results, rule):
    check(results, ("zero", rule, PROCESSES), alone(rule, "tensors"), 1e-6)


def test_zero_redundancy_cannot_have_a_graph():
    # It gives the optimizer some of the tensors, without names.
    with pytest.raises(GraphError, match="the 1 tensors given without names"):
        NeuralGraphOptimizer([next(net().parameters())], graph=graph_of())
