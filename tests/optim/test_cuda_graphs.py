"""A step in a CUDA graph is refused; the passes before it may be in one."""

import pytest
import torch

from ngopt.errors import CaptureError
from ngopt.optim import due
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.optim.placement import check_not_captured
from tests.contract import Small, assert_same, backward, copy_of, flat_state, train


def test_a_capture_elsewhere_is_no_matter(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    check_not_captured(torch.device("cpu"))
    with pytest.raises(CaptureError, match="call step\\(\\) outside"):
        check_not_captured(torch.device("cuda"))


def test_tensors_that_only_pretend_to_be_on_a_gpu_are_not_captured(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_not_captured(torch.device("cuda"))


def test_a_refused_step_changes_nothing(monkeypatch):
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 2)
    backward(model)
    weights, state = copy_of(model), flat_state(optimizer)

    def refuse(device):
        raise CaptureError(f"captured on {device}")

    with monkeypatch.context() as during:
        during.setattr(due, "check_not_captured", refuse)
        with pytest.raises(CaptureError, match="captured on cpu"):
            optimizer.step()
    assert_same(copy_of(model), weights)
    assert_same(flat_state(optimizer), state)
    optimizer.step()
    assert any((new != weights[name]).any() for name, new in copy_of(model).items())


@pytest.mark.gpu
def test_a_capture_of_the_step_is_refused():
    weight = torch.nn.Parameter(torch.ones(3, 2, device="cuda"))
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
    model, twin = torch.nn.Linear(4, 2).cuda(), torch.nn.Linear(4, 2).cuda()
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
    torch.testing.assert_close(copy_of(model), copy_of(twin))
