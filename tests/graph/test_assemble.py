import pytest
import torch
from torch import nn
from torch.nn import functional

from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace


class Between(nn.Module):
    """A layer between two linear ones: 12 neurons in, as many out as the last one takes."""

    def __init__(self, middle: nn.Module, out: int, call=lambda layer, x: layer(x)) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(5, 12), middle, nn.Linear(out, 4)
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.call(self.middle, torch.tanh(self.first(x)))))


def roles(layout: Layout) -> list[str]:
    """Size and role of each dimension of each bundle."""
    return [
        " ".join(f"{size}:{role}" for size, role in zip(b.sizes, b.roles, strict=True))
        for b in layout.bundles
    ]


def channels_first(layer, x):
    return layer(x.transpose(1, 2)).transpose(1, 2)


CASES = {
    "linear": (nn.Linear(12, 7), 7, {"weight": ["7:out 12:in"], "bias": ["7:out"]}),
    "conv": (
        nn.Conv1d(12, 7, 3, padding=1),
        7,
        {"weight": ["7:out 12:in 3:tap"], "bias": ["7:out"]},
    ),
    "transposed conv": (
        nn.ConvTranspose1d(12, 7, 3, padding=1),
        7,
        {"weight": ["12:in 7:out 3:tap"], "bias": ["7:out"]},
    ),
    "grouped conv": (
        nn.Conv1d(12, 6, 3, padding=1, groups=3),
        6,
        {"weight": ["3:group 2:out 4:in 3:tap"], "bias": ["3:out 2:out"]},
    ),
    "depthwise conv": (
        nn.Conv1d(12, 12, 3, padding=1, groups=12),
        12,
        {"weight": ["12:group 1:tap 3:tap"], "bias": ["12:out"]},
    ),
    "norm": (nn.LayerNorm(12), 12, {"weight": ["12:out"], "bias": ["12:out"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_roles_of_layers(case):
    middle, out, expected = CASES[case]
    call = channels_first if "conv" in case else lambda layer, x: layer(x)
    graph = trace(Between(middle, out, call), torch.randn(2, 6, 5))
    assert {name: roles(graph.layout(f"middle.{name}")) for name in expected} == expected
    assert roles(graph.layout("first.weight"))[0].endswith("out 5:in")
    ends = roles(graph.layout("last.weight"))[0].split()
    assert ends[0] == "4:out"
    assert {end.split(":")[1] for end in ends[1:]} == {"in"}


def test_roles_of_an_lstm():
    middle = nn.LSTM(12, 7, batch_first=True)
    graph = trace(Between(middle, 7, lambda layer, x: layer(x)[0]), torch.randn(2, 6, 5))
    weights = {name.split(".")[1]: roles(graph.layout(name)) for name in graph.layouts}
    assert weights["weight_ih_l0"] == ["4:tap 7:out 12:in"]
    assert weights["weight_hh_l0"] == ["4:tap 7:out 7:in"]
    assert weights["bias_ih_l0"] == weights["bias_hh_l0"] == ["4:tap 7:out"]
    assert graph.layout("middle.weight_hh_l0").kind == "recurrent"


def test_roles_of_an_embedding():
    model = nn.Sequential(nn.Embedding(9, 12), nn.Linear(12, 4))
    table = trace(model, torch.randint(9, (2, 6))).layout("0.weight")
    assert roles(table) == ["9:in 12:out"]
    assert table.kind == "embedding"


class Raw(nn.Module):
    """A parameter of its own, used as a matrix."""

    def __init__(self, shape, call) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(7, 4)
        self.w, self.call = nn.Parameter(torch.randn(shape)), call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.call(torch.tanh(self.first(x)), self.w)))


@pytest.mark.parametrize(
    ("shape", "call", "expected"),
    [
        ((12, 7), lambda x, w: x @ w, "12:in 7:out"),
        ((7, 12), lambda x, w: (w @ x.T).T, "7:out 12:in"),
        ((7, 12), lambda x, w: functional.linear(x, w), "7:out 12:in"),
        ((12, 7), lambda x, w: torch.einsum("bi,io->bo", x, w), "12:in 7:out"),
        ((12, 7), lambda x, w: x @ torch.tanh(w), "12:in 7:out"),
    ],
)
def test_roles_of_raw_parameters(shape, call, expected):
    graph = trace(Raw(shape, call), torch.randn(3, 5))
    assert roles(graph.layout("w")) == [expected]
    assert sorted(space.size for space in graph.hidden) == [7, 12]


def test_parts_become_bundles():
    def gate(layer, x):
        a, b = layer(x).chunk(2, dim=-1)
        return a * torch.sigmoid(b)

    graph = trace(Between(nn.Linear(12, 14), 7, gate), torch.randn(3, 5))
    layout = graph.layout("middle.weight")
    assert roles(layout) in (["7:out 12:in"] * 2, ["2:tap 7:out 12:in"])
    assert len({bundle.out_neurons for bundle in layout.bundles}) == 1


class Branches(nn.Module):
    """Four layers whose order of registration is given."""

    def __init__(self, order: str) -> None:
        super().__init__()
        for name in order:
            self.add_module(
                name, nn.Linear({"a": 5, "d": 7}.get(name, 12), 7 if name == "b" else 12)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.a(x))
        return self.c(torch.tanh(x + self.d(torch.tanh(self.b(x)))))


def named(graph: NeuralGraph) -> dict:
    factors = {
        name: [bundle.factors for bundle in layout.bundles]
        for name, layout in graph.layouts.items()
    }
    return {"spaces": dict(graph.spaces), "factors": factors}


def test_names_of_spaces_follow_the_forward_pass():
    graph = trace(Branches("abcd"), torch.randn(3, 5))
    assert [str(space) for space in graph.hidden] == ["h0(12)", "h1(7)"]
    assert list(graph.spaces) == ["p0", "h0", "h1", "p1"]
    for order in ("dcba", "bdac"):
        other = trace(Branches(order), torch.randn(3, 5))
        assert named(other) == named(graph)
        assert next(iter(other.layouts)) == f"{order[0]}.weight"


def test_depth_runs_from_the_inputs_to_the_outputs():
    graph = trace(Branches("abcd"), torch.randn(3, 5))
    depth = {name: graph.layout(f"{name}.weight").depth for name in "abdc"}
    assert list(depth.values()) == sorted(set(depth.values()))
    assert (depth["a"], depth["c"]) == (0.0, 1.0)
    assert depth["b"] == graph.layout("b.bias").depth == pytest.approx(1 / 3)


def test_a_single_layer_is_the_beginning():
    graph = trace(nn.Linear(5, 4), torch.randn(3, 5))
    assert {layout.depth for layout in graph.layouts.values()} == {0.0}


def test_unused_parameters_are_pinned_and_last():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(5, 4), nn.Linear(4, 6)

        def forward(self, x):
            return self.used(x)

    graph = trace(Unused(), torch.randn(3, 5))
    spare = graph.layout("spare.weight")
    assert spare.depth == 1.0
    reasons = {graph.spaces[str(name)].reason for b in spare.bundles for name in b.factors}
    assert reasons == {"not used in the forward pass"}
    assert graph.hidden == ()


def test_scalars_and_empty_parameters_have_layouts():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.none = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(0, 5))

        def forward(self, x):
            return x * self.scale + (x @ self.none.T).sum()

    graph = trace(Odd(), torch.randn(3, 5))
    assert [bundle.shape for bundle in graph.layout("scale").bundles] == [(1, 1, 1, 1)]
    assert graph.layout("none").bundles == ()
    assert graph.layout("none").shape == (0, 5)
