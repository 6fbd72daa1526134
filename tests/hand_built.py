"""Graphs written by hand, for models small enough to do so: the truth that others are held to."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ngopt.graph.bundle import Bundle, ViewStep
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.space import Space

ROLES = {"g": "group", "o": "out", "i": "in", "t": "tap"}


def spaces(**sizes: int | tuple[int, str]) -> dict[str, Space]:
    """Spaces by name, given as `h=5`, or nested as `d=(4, "heads")`; `x` and `y` are pinned."""
    result = {}
    for name, size in sizes.items():
        size, within = (size, ()) if isinstance(size, int) else (size[0], (size[1],))
        reason = {"x": "input of the model", "y": "output of the model"}.get(name, "")
        result[name] = Space(name, size, bool(reason), within, reason)
    return result


def bundle(
    parameter: str,
    known: Mapping[str, Space],
    factors: Sequence[str | int],
    roles: str,
    steps: Sequence[ViewStep] = (),
    axes: Sequence[int] | None = None,
) -> Bundle:
    """A bundle with roles given by their first letters (`t` for tap)."""
    sizes = tuple(known[f].size if isinstance(f, str) else f for f in factors)
    return Bundle(
        parameter,
        tuple(steps),
        tuple(factors),
        sizes,
        tuple(ROLES[r] for r in roles),
        tuple(range(len(factors)) if axes is None else axes),
    )


def layout(
    known: Mapping[str, Space], name: str, factors: Sequence[str | int], roles: str, **more
) -> Layout:
    """The layout of a tensor with one bundle and one factor per axis."""
    part = bundle(name, known, factors, roles)
    return Layout(name, part.sizes, (part,), **more)


def graph(
    known: Mapping[str, Space], layouts: Sequence[Layout], aliases: Mapping[str, str] | None = None
) -> NeuralGraph:
    return NeuralGraph(known, {item.name: item for item in layouts}, aliases or {})


def mlp() -> tuple[nn.Module, NeuralGraph, Tensor]:
    """A model, its graph, and inputs."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    s = spaces(x=4, h0=6, h1=5, y=3)
    layouts = []
    for number, (into, out) in enumerate([("x", "h0"), ("h0", "h1"), ("h1", "y")]):
        more = {"kind": "linear", "depth": number / 2}
        layouts += [
            layout(s, f"{2 * number}.weight", [out, into], "oi", **more),
            layout(s, f"{2 * number}.bias", [out], "o", **more),
        ]
    return model, graph(s, layouts), torch.randn(7, 4)


class ResidualConvNet(nn.Module):
    """A stem, one residual block with batch norm, a grouped convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.conv_a = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.conv_b = nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.conv_b(torch.relu(self.norm(self.conv_a(x)))))
        return self.head(x.mean((2, 3)))


def residual_convnet() -> tuple[nn.Module, NeuralGraph, Tensor]:
    """A model, its graph, and inputs. The stream is (group gs), the inner channels (group gi)."""
    s = spaces(x=2, group=4, gs=(2, "group"), gi=(3, "group"), y=3)
    stream, inner = ViewStep(0, 0, 8, (4, 2)), ViewStep(0, 0, 12, (4, 3))

    def per_channel(name: str, step: ViewStep, space: str, depth: float, **more) -> Layout:
        part = bundle(name, s, ["group", space], "oo", [step], [0, 0])
        return Layout(name, (step.length,), (part,), depth=depth, **more)

    norm = {"depth": 0.5, "kind": "normalization"}
    conv = {"kind": "convolution"}
    stem = bundle("stem.weight", s, ["group", "gs", "x", 3, 3], "ooitt", [stream], [0, 0, 1, 2, 3])
    conv_a = bundle(
        "conv_a.weight",
        s,
        ["group", "gi", "group", "gs", 3, 3],
        "ooiitt",
        [ViewStep(1, 0, 8, (4, 2)), inner],
        [0, 0, 1, 1, 2, 3],
    )
    conv_b = bundle(
        "conv_b.weight", s, ["group", "gs", "gi", 3, 3], "goitt", [stream], [0, 0, 1, 2, 3]
    )
    head = bundle(
        "head.weight", s, ["y", "group", "gs"], "oii", [ViewStep(1, 0, 8, (4, 2))], [0, 1, 1]
    )
    layouts = [
        Layout("stem.weight", (8, 2, 3, 3), (stem,), depth=0.0, **conv),
        per_channel("stem.bias", stream, "gs", 0.0, **conv),
        Layout("conv_a.weight", (12, 8, 3, 3), (conv_a,), depth=0.25, **conv),
        per_channel("norm.weight", inner, "gi", **norm),
        per_channel("norm.bias", inner, "gi", **norm),
        per_channel("norm.running_mean", inner, "gi", buffer=True, **norm),
        per_channel("norm.running_var", inner, "gi", buffer=True, **norm),
        Layout("conv_b.weight", (8, 3, 3, 3), (conv_b,), depth=0.75, **conv),
        per_channel("conv_b.bias", stream, "gs", 0.75, **conv),
        Layout("head.weight", (3, 8), (head,), "linear", 1.0),
        layout(s, "head.bias", ["y"], "o", kind="linear", depth=1.0),
    ]
    model = distinct(ResidualConvNet())
    return model.eval(), graph(s, layouts), torch.randn(5, 2, 6, 6)


class AttentionBlock(nn.Module):
    """An embedding tied to the output, one pre-norm transformer block, fused QKV."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 28)
        self.proj = nn.Linear(12, 8)
        self.up = nn.Linear(8, 10)
        self.down = nn.Linear(10, 8)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        parts = self.qkv(self.norm(x)).split([8, 8, 12], -1)
        q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        x = x + self.down(functional.gelu(self.up(x)))
        return self.head(x)


def attention_block() -> tuple[nn.Module, NeuralGraph, Tensor]:
    """A model, its graph, and inputs."""
    s = spaces(x=7, model=8, heads=4, qk=(2, "heads"), v=(3, "heads"), mlp=10)
    parts = [("qk", ViewStep(0, 0, 8, (4, 2))), ("qk", ViewStep(0, 8, 8, (4, 2)))]
    parts.append(("v", ViewStep(0, 16, 12, (4, 3))))
    fused = [
        bundle("qkv.weight", s, ["heads", d, "model"], "ooi", [step], [0, 0, 1])
        for d, step in parts
    ]
    fused_bias = [bundle("qkv.bias", s, ["heads", d], "oo", [step], [0, 0]) for d, step in parts]
    proj = bundle(
        "proj.weight", s, ["model", "heads", "v"], "oii", [ViewStep(1, 0, 12, (4, 3))], [0, 1, 1]
    )
    layouts = [
        layout(s, "embedding.weight", ["x", "model"], "io", kind="embedding", depth=0.0),
        layout(s, "norm.weight", ["model"], "o", kind="normalization", depth=0.2),
        layout(s, "norm.bias", ["model"], "o", kind="normalization", depth=0.2),
        Layout("qkv.weight", (28, 8), tuple(fused), "linear", 0.4),
        Layout("qkv.bias", (28,), tuple(fused_bias), "linear", 0.4),
        Layout("proj.weight", (8, 12), (proj,), "linear", 0.6),
        layout(s, "proj.bias", ["model"], "o", kind="linear", depth=0.6),
        layout(s, "up.weight", ["mlp", "model"], "oi", kind="linear", depth=0.8),
        layout(s, "up.bias", ["mlp"], "o", kind="linear", depth=0.8),
        layout(s, "down.weight", ["model", "mlp"], "oi", kind="linear", depth=1.0),
        layout(s, "down.bias", ["model"], "o", kind="linear", depth=1.0),
    ]
    described = graph(s, layouts, aliases={"head.weight": "embedding.weight"})
    return distinct(AttentionBlock()), described, torch.randint(7, (3, 5))


EXAMPLES = {"mlp": mlp, "residual_convnet": residual_convnet, "attention_block": attention_block}


def distinct(model: nn.Module) -> nn.Module:
    """Make neurons differ where torch starts them alike: norms and their statistics."""
    for name, tensor in model.state_dict().items():
        if "norm." in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 2)
    return model


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that hold one value per neuron or per edge, by name."""
    return {
        name: tensor.detach()
        for name, tensor in model.state_dict().items()
        if math.prod(tensor.shape) > 1
    }
