import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import flex_attention

from ngopt.graph.first_forward import trace_first_forward
from ngopt.graph.trace import trace


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3)
    )


def step(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of one step in training mode, from one seed."""
    torch.manual_seed(3)
    out = net(x)
    out.square().sum().backward()
    return [out, *(p.grad for p in net.parameters()), *net.buffers()]


def hooks(net: nn.Module) -> list[int]:
    return [
        len(net._forward_pre_hooks),
        len(net._forward_hooks),
        len(net._forward_hooks_with_kwargs),
    ]


def test_outputs_gradients_and_buffers_are_those_of_an_untraced_forward():
    traced, x, graphs = model(), torch.randn(4, 5), []
    plain = copy.deepcopy(traced)
    before = hooks(traced)
    trace_first_forward(traced, graphs.append)
    for ours, theirs in zip(step(traced, x), step(plain, x), strict=True):
        assert torch.equal(ours, theirs)
    assert hooks(traced) == before
    assert graphs == [trace(plain, x)]


def test_only_the_first_forward_is_traced():
    net, graphs = model(), []
    trace_first_forward(net, graphs.append)
    net(torch.randn(4, 5))
    net(torch.randn(4, 5))
    assert len(graphs) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_forward_without_gradients_is_traced(mode):
    net, graphs, x = model(), [], torch.randn(4, 5)
    trace_first_forward(net, graphs.append)
    with mode():
        net(x)
    assert graphs == [trace(net, x)]


def test_a_forward_that_fails_leaves_nothing_behind_and_the_next_is_traced():
    net, graphs, x = model(), [], torch.randn(4, 5)
    trace_first_forward(net, graphs.append)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        net(torch.randn(4, 6))
    assert graphs == []
    assert torch.overrides._get_current_function_mode_stack() == []
    net(x)
    assert graphs == [trace(net, x)]


@pytest.mark.usefixtures("fresh_compiler")
def test_two_that_wait_for_one_model_leave_nothing_behind():
    model, received = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)), []
    for _ in range(2):
        trace_first_forward(model, received.append)
    model(torch.ones(2, 3))
    first, second = received
    assert first == second
    assert first.hidden
    # While a model is followed, nothing is compiled, but now it is again.
    counter = CompileCounter()
    torch.compile(torch.neg, backend=counter)(torch.ones(2))
    assert counter.frame_count == 1


def test_waiting_can_be_ended():
    net, graphs = model(), []
    before = hooks(net)
    trace_first_forward(net, graphs.append).remove()
    assert hooks(net) == before
    net(torch.randn(4, 5))
    assert graphs == []


def test_a_model_that_calls_itself_is_traced_once():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x, again=True):
            h = torch.tanh(self.inner(x))
            return self.last(self(h, again=False) if again else h) if again else h

    net, graphs, x = Recursive(), [], torch.randn(4, 5)
    trace_first_forward(net, graphs.append)
    net(x)
    assert graphs == [trace(net, x)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_computes_the_same():
    net, graphs, x = nn.Sequential(nn.Linear(5, 12), nn.Linear(12, 3)), [], torch.ones(4, 5)
    expected = net(x)
    net.compile(backend="eager")
    trace_first_forward(net, graphs.append)
    torch.testing.assert_close(net(x), expected)
    assert [set(graph.layouts) for graph in graphs] == [set(dict(net.named_parameters()))]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_an_operation_that_compiles_itself_is_followed():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 16), nn.Linear(16, 2)

        def forward(self, x):
            heads = self.first(x).unflatten(-1, (2, 8)).transpose(1, 2)
            return self.last(flex_attention(heads, heads, heads).transpose(1, 2).flatten(2))

    net, graphs = Attention(), []
    trace_first_forward(net, graphs.append)
    with torch.no_grad():
        expected = net(torch.ones(1, 16, 5))
        torch.testing.assert_close(net(torch.ones(1, 16, 5)), expected)
    heads = graphs[0].hidden[0].within
    assert [str(space) for space in graphs[0].hidden] == [f"h0(8) within {heads[0]}"]
    assert graphs[0].spaces[heads[0]].pinned
