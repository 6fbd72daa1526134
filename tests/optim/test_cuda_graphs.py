"""Steps that CUDA graphs may hold: nothing is read from the device, and all state keeps its place.

No graph can be captured on the CPU. What a capture would refuse is looked for there in other ways.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.launches import Count
from ngopt.backends import dispatch
from ngopt.backends.backend import GPU
from ngopt.errors import CaptureError
from ngopt.graph.trace import trace
from ngopt.optim import optimizer as module
from ngopt.optim.annealing import Clock
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.buckets import compiled_step
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.library import load_rule
from tests.contract import Small, assert_same, backward, batch, copy_of, flat_state, train

READS = {"_local_scalar_dense", "equal", "is_nonzero", "item", "nonzero", "unique_dim", "_unique2"}
"""Operations that wait for a device to tell the host something."""


class NoReads(TorchDispatchMode):
    """Refuses what cannot be captured: to read a device, and to copy to it from the host."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.name().partition("::")[2].partition(".")[0]
        assert name not in READS, f"a step waits for {name}"
        found = function(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            assert source.device == found.device, f"a step copies from {source.device}"
        return found


def built(model: nn.Module, **options: Any) -> NeuralGraphOptimizer:
    """An optimizer whose steps can be captured."""
    return NeuralGraphOptimizer(model, torch.tensor(1e-2), capturable=True, **options)


def assert_near(model: nn.Module, twin: nn.Module) -> None:
    """Two models are the same, up to sums in another order."""
    torch.testing.assert_close(copy_of(model), copy_of(twin), rtol=1e-4, atol=1e-5)


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the CPU's operations be those of a capture."""
    for where in ("ngopt.optim.optimizer", "ngopt.rules.buckets.in_place"):
        monkeypatch.setattr(f"{where}.capturing", lambda device: True)


@pytest.mark.parametrize("where", [nullcontext, dispatch.eager], ids=["loops", "eager"])
@pytest.mark.parametrize("anneal", [None, True, False])
def test_steps_are_those_of_an_ordinary_optimizer(anneal, where):
    models = [Small(), Small()]
    models[1].load_state_dict(models[0].state_dict())
    options = {"anneal": anneal, "weight_decay": 0.1}
    optimizers = [NeuralGraphOptimizer(models[0], 1e-2, **options), built(models[1], **options)]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda n: min((n + 1) / 5, 1.0, 2 - n / 10))
        for o in optimizers
    ]
    rate = optimizers[1].param_groups[0]["lr"]
    with where():
        for seed in range(15):
            for model, optimizer, schedule in zip(models, optimizers, schedules, strict=True):
                backward(model, seed)
                optimizer.step()
                schedule.step()
    assert optimizers[1].param_groups[0]["lr"] is rate
    clocks = [Clock.of(optimizer.param_groups[0]).numbers() for optimizer in optimizers]
    assert clocks[1].age == clocks[0].age
    assert clocks[1].lowered == clocks[0].lowered
    assert_near(*models)


def places(optimizer: NeuralGraphOptimizer) -> dict[Any, int]:
    """Where in memory everything is that changes from step to step."""
    found: dict[Any, Tensor] = {"skipped": optimizer._skipped_steps}
    spikes = optimizer._clipper
    found |= {"usual": spikes.usual, "count": spikes.count}
    for number, group in enumerate(optimizer.param_groups):
        found |= {(number, key): group[key] for key in ("lr", *Clock._fields)}
    for number, state in enumerate(optimizer.state.values()):
        found |= {("state", number, key): tensor for key, tensor in state.items()}
    return {key: tensor.data_ptr() for key, tensor in found.items()}


@pytest.mark.parametrize("where", [nullcontext, dispatch.eager], ids=["loops", "eager"])
def test_everything_keeps_its_place(where):
    model = Small()
    optimizer = built(model)
    with where():
        train(model, optimizer, 2)
        before = places(optimizer)
        train(model, optimizer, 12)
        backward(model)
        model.linear.weight.grad.fill_(torch.nan)
        optimizer.step()
        assert optimizer.skipped_steps == 1
        assert int(optimizer.param_groups[0]["age"]) == 14
        optimizer.restart()
        assert int(optimizer.param_groups[0]["age"]) == 0
        train(model, optimizer, 1)
    assert places(optimizer) == before


@pytest.mark.parametrize("some", [False, True], ids=["all gradients", "some"])
def test_no_step_reads_the_device(some):
    model = Small()
    groups = [{"params": [p], "maximize": n == 1} for n, p in enumerate(model.parameters())]
    optimizer = NeuralGraphOptimizer(
        groups, torch.tensor(1e-2), model=model, weight_decay=0.1, capturable=True
    )
    indices = []
    with dispatch.eager():
        train(model, optimizer, 1)
        for seed in range(12):
            backward(model, seed)
            if some:
                model.linear.bias.grad = None
            with NoReads() if seed > 1 else nullcontext():
                optimizer.step()
            indices.append(optimizer._clipper.index)
    assert int(optimizer.param_groups[0]["age"]) == 13
    assert (indices[0] is not None) == some
    assert all(index is indices[0] for index in indices)


def test_ordinary_steps_read_it():
    model = Small()
    optimizer = NeuralGraphOptimizer(model, torch.tensor(1e-2))
    with dispatch.eager():
        train(model, optimizer, 1)
        backward(model)
        with pytest.raises(AssertionError, match="a step waits for"), NoReads():
            optimizer.step()


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "operations"])
def test_no_step_copies_from_the_host(kernels, monkeypatch):
    backend = replace(GPU, make=Count().kernel) if kernels else None
    monkeypatch.setattr(compiled_step, "backend_for", lambda tensors: backend)
    model = Small()
    graph = trace(model, batch()[0])
    model = model.to("meta")
    options = {"weight_decay": 0.1, "capturable": True, "rule": load_rule("default").to("meta")}
    optimizer = NeuralGraphOptimizer(model.named_parameters(), graph=graph, **options)
    optimizer.param_groups[0]["lr"] = torch.tensor(1e-2, device="meta")
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight)
    for number in range(4):
        # Without the other first steps, at each of which the rule looks at the whole model.
        optimizer._context_refresh.step += 8 * (number == 2)
        with NoReads() if number else nullcontext():
            optimizer.step()


def test_a_checkpoint_goes_on_as_it_would_have(tmp_path):
    model, twin = Small(), Small()
    optimizer = built(model)
    train(model, optimizer, 12)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "both.pt")
    weights, state = torch.load(tmp_path / "both.pt", weights_only=True)
    resumed = NeuralGraphOptimizer(twin)
    twin.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert resumed.param_groups[0]["capturable"]
    for each, own in ((model, optimizer), (twin, resumed)):
        train(each, own, 3, start=12)
    assert_same(copy_of(model), copy_of(twin))
    assert_same(flat_state(optimizer), flat_state(resumed))
    assert places(resumed)["usual"] != places(optimizer)["usual"]


def test_a_checkpoint_from_before_loads_into_it():
    model = Small()
    ordinary = NeuralGraphOptimizer(model, 1e-2)
    train(model, ordinary, 2)
    state = ordinary.state_dict()
    for group in state["param_groups"]:
        del group["capturable"]
    optimizer = built(model)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["capturable"] is False
    train(model, optimizer, 1)
    assert optimizer.param_groups[0]["age"] == 3
    optimizer.param_groups[0]["capturable"] = True
    train(model, optimizer, 1)
    assert isinstance(optimizer.param_groups[0]["age"], Tensor)
    assert "4 so far" in repr(optimizer)


def test_groups_of_another_optimizer_have_clocks_of_their_own():
    model = Small()
    first = built(model)
    train(model, first, 2)
    second = NeuralGraphOptimizer(first.param_groups)
    train(model, second, 1)
    ages = [int(optimizer.param_groups[0]["age"]) for optimizer in (first, second)]
    assert ages == [2, 3]


def test_a_capture_is_told_by_the_stream(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    assert dispatch.capturing(torch.device("cuda"))
    assert not dispatch.capturing(torch.device("cpu"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not dispatch.capturing(torch.device("cuda"))  # which tensors may only pretend to be on


def frozen(model: nn.Module) -> None:
    model.linear.bias.grad = None


REFUSED = {
    "without capturable=True": {"capturable": False},
    "replaces its state": {"rule": Adam()},
    "tensors that are whole": {"lr": torch.tensor(1e-2, device="meta")},
    "no step before it": {"warm": 0},
    "gradients of the same parameters": {"change": frozen},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_captured_changes_nothing(why, monkeypatch):
    options = {"lr": torch.tensor(1e-2), "capturable": True, **REFUSED[why]}
    warm, change = options.pop("warm", 2), options.pop("change", lambda model: None)
    rate = options.pop("lr")
    model = Small()
    optimizer = NeuralGraphOptimizer(model, 1e-2, **options)
    train(model, optimizer, warm)
    optimizer.param_groups[0]["lr"] = rate
    backward(model)
    change(model)
    weights, state = copy_of(model), flat_state(optimizer)
    with monkeypatch.context() as during:
        pretend(during)
        with pytest.raises(CaptureError, match=f"cannot be captured.*{why}.*\n  [A-Z].*\\.$"):
            optimizer.step()
    assert_same(copy_of(model), weights)
    assert_same(flat_state(optimizer), state)


def test_a_captured_step_looks_at_the_whole_model_and_what_it_needs_stays(monkeypatch):
    model, looks = Small(), []
    optimizer = built(model)
    train(model, optimizer, 12)
    update = module.update_in_place
    monkeypatch.setattr(
        module,
        "update_in_place",
        lambda *a, refresh, **k: looks.append(refresh) or update(*a, refresh=refresh, **k),
    )
    train(model, optimizer, 2, start=12)
    assert looks == [False, False]
    assert not optimizer._captured
    pretend(monkeypatch)
    train(model, optimizer, 2, start=14)
    assert looks[2:] == [True, True]
    (plan,) = {each for each in optimizer._captured if isinstance(each, Plan)}
    assert {*plan.loops.values()} <= {*optimizer._captured}


@pytest.mark.gpu
@pytest.mark.parametrize("static", [True, False], ids=["static gradients", "gradients of the pool"])
def test_replays_are_steps(static):
    torch.manual_seed(0)
    model, twin = nn.Linear(4, 2).cuda(), nn.Linear(4, 2).cuda()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(8, 4, device="cuda")
    optimizers = [
        NeuralGraphOptimizer(each, torch.tensor(1e-2, device="cuda"), capturable=True)
        for each in (model, twin)
    ]

    def step(each: nn.Module, optimizer: NeuralGraphOptimizer) -> None:
        each(x).square().sum().backward()
        optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            for each, optimizer in zip((model, twin), optimizers, strict=True):
                optimizer.zero_grad(set_to_none=not static)
                step(each, optimizer)
    torch.cuda.current_stream().wait_stream(side)
    optimizers[0].zero_grad(set_to_none=not static)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        if static:
            model.zero_grad(set_to_none=False)
        step(model, optimizers[0])
    # A look at each step is what the first steps have anyway.
    for number in range(5):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"].fill_(1e-2 if number < 3 else 1e-3)
        x.copy_(torch.randn(8, 4, device="cuda"))
        graph.replay()
        optimizers[1].zero_grad(set_to_none=not static)
        step(twin, optimizers[1])
        assert_near(model, twin)
    x[0] = torch.nan
    graph.replay()
    assert optimizers[0].skipped_steps == 1
    assert_near(model, twin)


@pytest.mark.gpu
def test_steps_outside_and_replays_may_take_turns():
    torch.manual_seed(0)
    model, twin = nn.Linear(4, 2).cuda(), nn.Linear(4, 2).cuda()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(8, 4, device="cuda")
    rates = [torch.tensor(1e-2, device="cuda") for _ in range(2)]
    captured, eager = (
        NeuralGraphOptimizer(each, rate, capturable=True)
        for each, rate in zip((model, twin), rates, strict=True)
    )

    def step(each: nn.Module, optimizer: NeuralGraphOptimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        each(x).square().sum().backward()
        optimizer.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(model, captured)
        step(twin, eager)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(model, captured)
    for number in range(6):
        if number % 2:
            # New gradients, at other addresses than the graph's.
            step(model, captured)
        else:
            graph.replay()
        step(twin, eager)
        assert_near(model, twin)


@pytest.mark.gpu
def test_a_capture_of_an_ordinary_step_is_refused():
    weight = nn.Parameter(torch.ones(3, 2, device="cuda"))
    optimizer = NeuralGraphOptimizer([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    before = weight.detach().clone()
    graph = torch.cuda.graph(torch.cuda.CUDAGraph())
    with pytest.warns(UserWarning, match="Graph is empty"), pytest.raises(CaptureError), graph:
        optimizer.step()
    assert torch.equal(weight, before)


@pytest.mark.gpu
def test_passes_may_be_captured_and_the_step_stays_outside():
    torch.manual_seed(0)
    model, twin = nn.Linear(4, 2).cuda(), nn.Linear(4, 2).cuda()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(8, 4, device="cuda")
    captured, eager = NeuralGraphOptimizer(model), NeuralGraphOptimizer(twin)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        model(x).square().sum().backward()
    torch.cuda.current_stream().wait_stream(side)
    model.zero_grad(set_to_none=False)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x).square().sum().backward()
    for _ in range(5):
        model.zero_grad(set_to_none=False)
        graph.replay()
        captured.step()
        twin.zero_grad()
        twin(x).square().sum().backward()
        eager.step()
    assert_near(model, twin)
