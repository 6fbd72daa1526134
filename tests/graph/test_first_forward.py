import copy
import tempfile

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.tensorboard import SummaryWriter

from ngopt.graph import trace as trace_module
from ngopt.graph.first_forward import trace_first_forward
from ngopt.graph.recorder import TraceRecorder
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


class Loop(nn.Module):
    """A recurrent cell that is called once per step; all its states go into the output."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(4, 1)

    def forward(self, x):
        h, states = torch.zeros(len(x), 4), []
        for step in x.unbind(1):
            h = self.cell(step, h)
            states.append(h)
        joined = torch.cat(states, 1)
        return self.head(h) + (joined * joined.tanh()).sum()


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell])
def test_a_loop_of_2000_steps_is_followed_as_a_short_one(cell):
    net, graphs = Loop(cell(2, 4)), []
    for steps in (20, 2000):
        trace_first_forward(net, graphs.append)
        net(torch.randn(1, steps, 2))
    short, long = graphs
    assert long == short
    assert [str(space) for space in long.hidden] == ["h0(4)"]


@pytest.mark.parametrize(
    "fails",
    ["TraceRecorder.add_input", "TraceRecorder.record", "TraceRecorder.derive", "trace.assemble"],
)
def test_where_following_fails_the_forward_pass_does_not(fails, monkeypatch):
    def fail(*args, **kwargs):
        raise RecursionError("too deep")

    owner, name = fails.split(".")
    monkeypatch.setattr(TraceRecorder if owner == "TraceRecorder" else trace_module, name, fail)
    traced, graphs, x = model(), [], torch.randn(4, 5)
    plain, before = copy.deepcopy(traced), hooks(traced)
    trace_first_forward(traced, graphs.append)
    with pytest.warns(UserWarning, match=r"could not be followed.*RecursionError: too deep"):
        ours = step(traced, x)
    for one, other in zip(ours, step(plain, x), strict=True):
        assert torch.equal(one, other)
    assert hooks(traced) == before
    assert torch.overrides._get_current_function_mode_stack() == []
    assert [graph.layouts for graph in graphs] == [{}]
    with pytest.raises(RecursionError, match="too deep"):
        trace(plain, x)


def board(net, x):
    writer = SummaryWriter(tempfile.mkdtemp())
    writer.add_graph(net, x)
    writer.close()


OTHERS = {
    "torch.jit.trace": lambda net, x: torch.jit.trace(net, x),
    "torch.jit.script": lambda net, x: torch.jit.script(net),
    "TensorBoard": board,
    "torch.export": lambda net, x: torch.export.export(net, (x,)).module(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("inside", [False, True], ids=["itself", "as a part"])
@pytest.mark.parametrize("name", OTHERS)
def test_others_may_follow_a_model_that_waits(name, inside):
    net, graphs, x = model().eval(), [], torch.randn(4, 5)
    expected, before = trace(net, x), hooks(net)
    for _ in range(2):
        trace_first_forward(net, graphs.append)
    whole = nn.Sequential(net, nn.Tanh()) if inside else net
    followed = OTHERS[name](whole, x)
    if followed is not None:
        torch.testing.assert_close(followed(x), whole(x))
    net(x)
    assert graphs == [expected] * 2
    assert hooks(net) == before
    assert "__prepare_scriptable__" not in net.__dict__


def test_a_scripted_model_prepares_itself_as_it_would():
    class Prepared(nn.Linear):
        def __prepare_scriptable__(self):
            return nn.ReLU()

    net = Prepared(5, 3)
    trace_first_forward(net, [].append)
    assert isinstance(net.__prepare_scriptable__(), nn.ReLU)


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
