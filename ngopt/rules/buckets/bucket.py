"""Buckets: bundles of one shape, whose arrays are stacked and computed together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ngopt.features.neurons import Ends
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Member:
    """A bundle in a bucket.

    Args:
        name: of its parameter.
        number: of the bundle among those of the parameter.
        layout: of the parameter.
        matrix: the bundle as matrices whose momentum is orthogonalized, if it has any.
        whitened: whether its momentum is whitened instead.
        ends: the sets of neurons that it connects.
        places: cache of where its entries are in tensors, by the strides of these.
    """

    name: str
    number: int
    layout: Layout
    matrix: Matrix | None
    whitened: bool
    ends: Ends
    places: dict[Any, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self.layout.bundles[self.number]


@dataclass(frozen=True, eq=False)
class Bucket:
    """Bundles of one shape that are computed together.

    Args:
        members: the bundles.
        start: index of the first among all bundles of the plan.
        outputs: indices of their outputs among those of all bundles, by bundle and group.
        inputs: the same of their inputs.
        shape: of each, `(group, out, in, tap)`.
        matrix: how each consists of matrices, if it does.
        thin: whether there are more numbers in the states of its neurons than in a bundle, which
            then has none.
    """

    members: tuple[Member, ...]
    start: int
    outputs: slice
    inputs: slice
    shape: tuple[int, int, int, int]
    matrix: Matrix | None
    stateless: bool

    @property
    def whitened(self) -> bool:
        """Whether its bundles are whitened."""
        return self.members[0].whitened

    @property
    def has_messages(self) -> bool:
        """Whether neurons exchange messages along its bundles."""
        return not self.stateless and any(self.members[0].ends)

    def select(self, numbers: Tensor) -> Tensor:
        """Select the members, `(runs, members)`, from numbers of all bundles, `(runs, bundles)`."""
        return numbers[:, self.start : self.start + len(self.members)]

    def at_outputs(self, lines: Tensor) -> Tensor:
        """Select its outputs, `(runs, members, group, out, ...)`.

        Args:
            lines: of the outputs of all bundles, `(runs, outputs, ...)`.
        """
        group, out, _, _ = self.shape
        own = lines[:, self.outputs]
        return own.reshape(len(own), len(self.members), group, out, *own.shape[2:])

    def at_inputs(self, lines: Tensor) -> Tensor:
        """The same for inputs."""
        group, _, into, _ = self.shape
        own = lines[:, self.inputs]
        return own.reshape(len(own), len(self.members), group, into, *own.shape[2:])

    def broadcast(self, numbers: Tensor) -> Tensor:
        """Select the members, to broadcast to arrays `(runs, members, group, out, in, tap)`."""
        return self.select(numbers)[..., None, None, None, None]


def stacked(bucket: Bucket, tensors: Mapping[str, Tensor]) -> Tensor:
    """Stack the arrays of the members, `(runs, members, group, out, in, tap)`; a view for a
    single member.

    Args:
        bucket: the bucket.
        tensors: by name of the parameter, of its shape, or with a dimension for runs in front.
    """
    arrays = []
    for member in bucket.members:
        tensor, view = tensors[member.name], member.bundle.view
        if tensor.dim() > len(member.layout.shape):
            arrays.append(torch.stack([view(run) for run in tensor]))
        else:
            arrays.append(view(tensor).unsqueeze(0))
    return arrays[0].unsqueeze(1) if len(arrays) == 1 else torch.stack(arrays, 1)
