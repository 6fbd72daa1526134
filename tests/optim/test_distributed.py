"""Two processes must do what one does on the joint batch."""

import copy

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ngopt.graph.trace import trace
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam

RULES = {"Adam": Adam, "default": lambda: "default"}
STEPS = 4


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def _loss(model, step, part):
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)
    return (model(x[part]) - y[part]).square().mean()


def _train(model, optimizer, part=slice(None), start=0, steps=STEPS):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        _loss(model, step, part).backward()
        optimizer.step()


def _full(model):
    return [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in model.parameters()]


def _data_parallel(rule, rank):
    model = nn.parallel.DistributedDataParallel(_model())
    optimizer = NeuralGraphOptimizer(model.module, 1e-2, rule=rule, weight_decay=0.1)
    _train(model, optimizer, slice(rank, None, 2))
    return {"params": _full(model)}


def _sharded(rule, rank):
    model = _model()
    fully_shard(model[0])
    fully_shard(model)
    graph = trace(_model(), torch.zeros(1, 6))
    optimizer = NeuralGraphOptimizer(model, 1e-2, rule=rule, weight_decay=0.1, graph=graph)
    part = slice(rank, None, 2)
    _train(model, optimizer, part, steps=2)
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = NeuralGraphOptimizer(model, 1e-2, rule=rule, weight_decay=0.1, graph=graph)
    resumed.load_state_dict(saved)
    _train(model, resumed, part, start=2, steps=STEPS - 2)
    weight = model[0].weight
    alike = [
        isinstance(value, DTensor) and value.placements == weight.placements
        for value in resumed.state[weight].values()
        if value.shape == weight.shape
    ]
    names = get_optimizer_state_dict(model, resumed)["state"].keys()
    return {
        "params": _full(model),
        "alike": alike,
        "names": list(names),
        "hidden": sorted(space.size for space in resumed.graph.hidden),
    }


def _work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results = {}
    for name, rule in RULES.items():
        results["data parallel", name] = _data_parallel(rule(), rank)
        results["sharded", name] = _sharded(rule(), rank)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(_work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["data parallel", "sharded"])
def test_two_processes_equal_one_on_the_joint_batch(results, how, rule):
    model = _model()
    optimizer = NeuralGraphOptimizer(model, 1e-2, rule=RULES[rule](), weight_decay=0.1)
    _train(model, optimizer)
    for rank in range(2):
        torch.testing.assert_close(
            results[rank][how, rule]["params"], _full(model), rtol=1e-3, atol=1e-4
        )
    assert all(
        torch.equal(*pair)
        for pair in zip(*(results[rank][how, rule]["params"] for rank in range(2)), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_state_is_sharded_like_its_parameter(results, rule):
    alike = results[0]["sharded", rule]["alike"]
    assert alike
    assert all(alike)


@pytest.mark.slow
def test_distributed_checkpoints_know_the_state(results):
    names = results[0]["sharded", "default"]["names"]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.slow
def test_a_sharded_model_takes_the_graph_of_the_whole_one(results):
    assert results[0]["sharded", "default"]["hidden"] == [5]
