"""What must not matter to the graph: names, order, containers, sizes that coincide, the mode."""

import functools
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace
from tests.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


@functools.cache
def traced(name: str) -> NeuralGraph:
    model, args, kwargs = ZOO[name].build()
    return trace(model, *args, **kwargs)


def canonical(graph: NeuralGraph, rename=lambda name: name) -> dict:
    """The graph up to the names of its spaces, by renamed parameter.

    Spaces are numbered as they are met in the order of the new names.
    """
    numbers: dict[str, int] = {}
    layouts = {rename(name): graph.layout(name) for name in [*graph.layouts, *graph.aliases]}
    result = {}
    for name in sorted(layouts):
        layout, bundles = layouts[name], []
        for bundle in layout.bundles:
            factors = []
            for factor in bundle.factors:
                number = numbers.setdefault(factor, len(numbers)) if factor in graph.spaces else -1
                space = graph.spaces.get(factor)
                factors.append(
                    (number, (space.size, space.pinned, len(space.within)) if space else factor)
                )
            bundles.append((bundle.steps, factors, bundle.sizes, bundle.roles, bundle.axes))
        result[name] = (layout.shape, layout.kind, layout.depth, bundles)
    return result


ROLES = ("embed", "norm", "left", "right", "last")


class Renamed(nn.Module):
    """A residual network whose layers have any names, registered in any order."""

    def __init__(self, names, order):
        super().__init__()
        make = {
            "embed": lambda: nn.Linear(5, 12),
            "norm": lambda: nn.LayerNorm(12),
            "left": lambda: nn.Linear(12, 7),
            "right": lambda: nn.Linear(7, 12),
            "last": lambda: nn.Linear(12, 4),
        }
        self.names = names
        for role in order:
            self.add_module(names[role], make[role]())

    def layer(self, role):
        return getattr(self, self.names[role])

    def forward(self, x):
        x = self.layer("embed")(x)
        y = torch.relu(self.layer("left")(self.layer("norm")(x)))
        return self.layer("last")(x + self.layer("right")(y))

    def role(self, parameter):
        """The name that a parameter has in the plain network."""
        layer, _, last = parameter.rpartition(".")
        return f"{dict(zip(self.names.values(), self.names, strict=True))[layer]}.{last}"


NAMES = st.from_regex(r"layer_[a-z0-9_]{1,6}", fullmatch=True)


@settings(max_examples=25)
@given(
    st.lists(NAMES, min_size=len(ROLES), max_size=len(ROLES), unique=True), st.permutations(ROLES)
)
def test_names_and_registration_order_do_not_matter(names, order):
    x = torch.randn(3, 5)
    plain = Renamed(dict(zip(ROLES, ROLES, strict=True)), ROLES)
    other = Renamed(dict(zip(ROLES, names, strict=True)), order)
    assert canonical(trace(other, x), other.role) == canonical(trace(plain, x))


class Wrapper(nn.Module):
    def __init__(self, name, inner):
        super().__init__()
        self.extra = nn.Identity()
        self.inside = nn.ModuleDict({name: inner})
        self.name = name

    def forward(self, *args, **kwargs):
        return self.extra(self.inside[self.name](*args, **kwargs))


def reverse_registration(model: nn.Module) -> None:
    """Turn around the order of submodules and parameters, where the forward pass cannot see it."""
    for module in model.modules():
        for registry in (module._modules, module._parameters):
            if not isinstance(module, (nn.Sequential, nn.ModuleList)):
                items = list(registry.items())[::-1]
                registry.clear()
                registry.update(items)


@settings(max_examples=25)
@given(st.sampled_from(list(ZOO)), NAMES)
def test_wrapping_and_registration_order_do_not_matter(name, inside):
    model, args, kwargs = ZOO[name].build()
    reverse_registration(model)
    wrapped = trace(Wrapper(inside, model), *args, **kwargs)
    prefix = f"inside.{inside}."
    assert canonical(wrapped, lambda key: key.removeprefix(prefix)) == canonical(traced(name))


@pytest.mark.parametrize("batch", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("name", ["mlp", "mlp_layernorm", "containers", "lora_merged"])
def test_the_batch_size_does_not_matter(name, batch):
    model, _, _ = ZOO[name].build()
    assert canonical(trace(model, torch.randn(batch, 5))) == canonical(traced(name))


@pytest.mark.parametrize(("batch", "time"), list(itertools.product([1, 3, 10], [2, 3, 5, 10])))
@pytest.mark.parametrize("name", ["attention_sdpa", "attention_unbind", "gqa_expand"])
def test_sizes_that_coincide_do_not_matter(name, batch, time):
    model, _, _ = ZOO[name].build()
    assert canonical(trace(model, torch.randn(batch, time, 6))) == canonical(traced(name))


# In eval mode, nothing ties the spread of the VAE's code to its mean.
@pytest.mark.parametrize("name", [name for name in ZOO if name != "vae"])
def test_train_and_eval_mode_give_the_same_graph(name):
    model, args, kwargs = ZOO[name].build()
    other = trace(model.train(not model.training), *args, **kwargs)
    assert canonical(other) == canonical(traced(name))
