"""What happens to operations that tracing does not see through, or sees in another guise."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ngopt.errors import TraceError
from ngopt.graph.trace import trace
from tests.graph.operations.between import Between, hidden, traced, words

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@torch.library.custom_op("ngopt_test_escapes::backwards", mutates_args=())
def backwards(x: torch.Tensor) -> torch.Tensor:
    return x.flip(-1)


@torch.library.custom_op("ngopt_test_escapes::reverse", mutates_args=["x"])
def reverse(x: torch.Tensor) -> None:
    x.copy_(x.flip(-1))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.flip(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad.flip(-1)


class Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad


def rewritten(h):
    h = h.clone()
    reverse(h)
    return h


def test_a_custom_operator_is_pinned_and_named_with_its_place():
    graph = traced(lambda h: backwards(h))
    assert words(graph) == ""
    (unknown,) = graph.unknown
    assert "backwards" in unknown
    assert ".py:" in unknown


def test_a_custom_operator_that_writes_pins_what_it_writes_into():
    assert words(traced(rewritten)) == ""


def test_a_scripted_function_is_pinned_and_named():
    scripted = torch.jit.script(nn.Sequential(nn.ReLU(), nn.Softmax(-1)))
    graph = traced(scripted)
    assert words(graph) == ""
    assert any("relu" in name for name in graph.unknown)


def test_a_transform_of_functions_is_pinned_and_named():
    graph = traced(torch.vmap(lambda row: row.cumsum(-1)))
    assert words(graph) == ""
    assert graph.unknown == ("a transform of functions, such as vmap",)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_are_followed(reentrant):
    def run(function, h):
        return checkpoint(function, h, use_reentrant=reentrant)

    assert hidden(lambda h: run(torch.tanh, h)) == "12"
    assert hidden(lambda h: run(lambda a: a.cumsum(-1), h)) == ""


def test_functions_with_their_own_gradient_are_followed():
    assert hidden(Reversed.apply) == ""
    assert hidden(Reversed.apply, "middle") == "12"
    assert hidden(lambda h: Passed.apply(h) * torch.arange(12)) == ""
    assert hidden(lambda h: Passed.apply(h).cos()) == "12"


def test_constants_kept_as_plain_attributes_pin():
    ladder = torch.arange(12.0).double()
    assert hidden(lambda h: h * ladder) == ""
    assert hidden(lambda h: h * ladder[:4, None]) == "12"


def test_results_that_are_written_into_given_tensors():
    def into_pair(h):
        values, places = torch.empty(0, dtype=h.dtype), torch.empty(0, dtype=torch.long)
        torch.max(h, 1, out=(values, places))
        return values, places

    assert hidden(into_pair) == "12"


def test_a_model_that_raises_leaves_no_mode_behind():
    def fail(h):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        trace(Between(fail, "last"), torch.randn(2, 4, 5))
    assert torch.overrides._get_current_function_mode_stack() == []
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))


def test_bfloat16():
    graph = trace(_net().bfloat16(), torch.randn(4, 5, dtype=torch.bfloat16), verify=True)
    assert words(graph) == "12"


def test_meta_device():
    with torch.device("meta"):
        net, x = _net(), torch.randn(4, 5)
    assert words(trace(net, x)) == "12"


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
def test_complex_weights():
    net = _net().to(torch.complex64)
    net[1] = nn.Tanh()
    assert words(trace(net, torch.randn(4, 5, dtype=torch.complex64))) == "12"


def test_an_empty_batch():
    assert words(trace(_net(), torch.randn(0, 5))) == "12"


def test_integers_scalars_and_empty_tensors_among_the_parameters():
    net = _net()
    net.scale = nn.Parameter(torch.tensor(2.0))
    net.steps = nn.Parameter(torch.arange(3), requires_grad=False)
    net.nothing = nn.Parameter(torch.zeros(0, 4))
    net.register_buffer("table", torch.arange(12))
    graph = trace(net, torch.randn(4, 5), verify=True)
    assert words(graph) == "12"
    assert set(graph.layouts) == {name for name, _ in net.named_parameters()}


def test_a_module_without_parameters():
    graph = trace(nn.Identity(), torch.randn(4, 5), verify=True)
    assert graph.layouts == {}
    assert graph.spaces == {}


def test_layers_called_several_times():
    shared, last = nn.Linear(12, 12), nn.Linear(12, 3)
    net = nn.Sequential(nn.Linear(5, 12), shared, nn.Tanh(), shared, last)
    assert words(trace(net, torch.randn(4, 5), verify=True)) == "12"


def test_outputs_in_odd_containers_are_pinned():
    class Boxed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, 12)

        def forward(self, x):
            return {"a": [(self.first(x), x)], "b": None}

    assert words(trace(Boxed(), torch.randn(4, 5), verify=True)) == ""


def test_verification_needs_finite_outputs():
    with pytest.raises(TraceError, match="not finite"):
        trace(Between(lambda h: h / 0, "last"), torch.randn(2, 4, 5), verify=True)
