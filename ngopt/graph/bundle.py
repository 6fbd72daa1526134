"""A bundle: the edges of one parameter (or of one part of it) as a dense tensor."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Factor: TypeAlias = str | int
"""What a dimension runs over: the name of a space, or the size of a free dimension (no neurons)."""

Role: TypeAlias = Literal["group", "out", "in", "tap"]
ROLES: tuple[Role, ...] = ("group", "out", "in", "tap")


@dataclass(frozen=True)
class ViewStep:
    """One view on the way from a parameter to its bundle: keep a range of `dim`, then unflatten it.

    Args:
        dim: the dimension of the tensor (as the steps before left it) that is viewed.
        start: first index kept.
        length: number of indices kept.
        sizes: sizes of the dimensions that replace `dim`; their product is `length`.
    """

    dim: int
    start: int
    length: int
    sizes: tuple[int, ...]

    def view(self, tensor: Tensor) -> Tensor:
        """Apply the step; the result shares the tensor's memory."""
        part = tensor.narrow(self.dim, self.start, self.length)
        return part if len(self.sizes) == 1 else torch.unflatten(part, self.dim, self.sizes)


@dataclass(frozen=True)
class Bundle:
    """Edges between two sets of neurons, as a dense array `(group, out, in, tap)`.

    An entry `[g, o, i, k]` is the weight of the edge from input neuron `(g, i)` to output neuron
    `(g, o)` at tap `k`. `group` holds the spaces that both ends share edge by edge (grouped
    convolutions, per-head weights) and is 1 for ordinary layers; `tap` holds everything that is not
    neurons (kernel taps, positions, gates). A bias has no input space: `in` is then 1.

    Args:
        parameter: name of the parameter.
        steps: views that lead from the parameter to one dimension per factor.
        factors: what each of those dimensions runs over.
        sizes: their sizes.
        roles: the part of the array each of them belongs to.
        axes: the axis of the parameter each of them comes from.
    """

    parameter: str
    steps: tuple[ViewStep, ...]
    factors: tuple[Factor, ...]
    sizes: tuple[int, ...]
    roles: tuple[Role, ...]
    axes: tuple[int, ...]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Dimensions sorted by role, in the order group, out, in, tap."""
        return tuple(d for role in ROLES for d, r in enumerate(self.roles) if r == role)

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape `(group, out, in, tap)` of the array."""
        sizes = {role: 1 for role in ROLES}
        for size, role in zip(self.sizes, self.roles, strict=True):
            sizes[role] *= size
        return sizes["group"], sizes["out"], sizes["in"], sizes["tap"]

    @cached_property
    def numel(self) -> int:
        """Number of edges."""
        return math.prod(self.sizes)

    def spaces(self, *roles: Role) -> tuple[str, ...]:
        """Names of the spaces of the given roles (of all roles if none is given), in order."""
        wanted = roles or ROLES
        return tuple(
            str(self.factors[d])
            for d in self.order
            if self.roles[d] in wanted and isinstance(self.factors[d], str)
        )

    @property
    def out_neurons(self) -> tuple[str, ...]:
        """The spaces whose product is the set of output neurons; empty if there are none."""
        return self.spaces("group", "out")

    @property
    def in_neurons(self) -> tuple[str, ...]:
        """The spaces whose product is the set of input neurons; empty for biases and the like."""
        return self.spaces("group", "in") if "in" in self.roles else ()

    def unfold(self, tensor: Tensor) -> Tensor:
        """View the part of a parameter that this bundle covers, one dimension per factor."""
        for step in self.steps:
            tensor = step.view(tensor)
        return tensor

    def view(self, tensor: Tensor) -> Tensor:
        """Return the array `(group, out, in, tap)` of a parameter-shaped tensor.

        It is a view of the tensor where the layout of its memory allows it.
        """
        return self.unfold(tensor).permute(self.order).reshape(self.shape)

    def fold(self, array: Tensor) -> Tensor:
        """Inverse of :meth:`view`, up to the unfolded shape: one dimension per factor."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return array.reshape([self.sizes[d] for d in self.order]).permute(inverse)
