"""A batch of networks as one graph: many small graphs beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ngopt.encoders.batch_graph import BatchGraph, batch_graph_of
from ngopt.encoders.networks import Networks, Stack
from ngopt.features.positions import Positions
from ngopt.graph.layout import Layout
from ngopt.nn.connectivity import Connectivity


@dataclass(frozen=True)
class Batch:
    """Networks as one graph, whose edges are arrays of bundles of the same shape.

    Args:
        networks: the networks.
        graph: what does not depend on the values of their parameters.
        values: of the parameters, arrays `(groups, out, in, tap)`.
    """

    networks: Networks
    graph: BatchGraph
    values: tuple[Tensor, ...]

    @classmethod
    def of(cls, networks: Networks, shown: Positions) -> "Batch":
        """Put networks beside each other.

        Args:
            networks: at least one network; all on one device and of one dtype.
            shown: the positional features to show.
        """
        like = next(iter(networks.stacks[0].parameters.values()))
        batch_graph = batch_graph_of(networks, shown, like)
        arrays: list[list[Tensor]] = [[] for _ in batch_graph.connectivity.edges]
        views = [view for stack in networks for view in _views(stack)]
        for stack_slice, view in zip(batch_graph.slices, views, strict=True):
            arrays[stack_slice.array].append(view.flatten(0, 1))
        return cls(networks, batch_graph, tuple(torch.cat(parts) for parts in arrays))

    @property
    def connectivity(self) -> Connectivity:
        """How the edges hang together."""
        return self.graph.connectivity

    def parameters(self, arrays: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Bring what was computed for each entry into the shape of the parameters.

        Args:
            arrays: `(groups, out, in, tap, outputs)`.

        Returns:
            For each stack, `(networks, *shape, outputs)` by name of the parameter.
        """
        found: list[dict[str, list[Tensor]]] = [{} for _ in self.networks]
        result: list[dict[str, Tensor]] = [{} for _ in self.networks]
        for stack_slice in self.graph.slices:
            part = arrays[stack_slice.array][stack_slice.start : stack_slice.stop]
            count = len(self.networks.stacks[stack_slice.stack])
            by_network = torch.unflatten(part, 0, (count, -1)).movedim(-1, 1)
            found[stack_slice.stack].setdefault(stack_slice.layout.name, []).append(by_network)
        for stack, by_name, parts in zip(self.networks, result, found, strict=True):
            for name, tensor in stack.parameters.items():
                layout = stack.graph.parameters[name]
                by_name[name] = _assembled(layout, parts.get(name, []), tensor, arrays[0].shape[-1])
        return result


def _views(stack: Stack) -> list[Tensor]:
    """The array `(networks, group, out, in, tap)` of each bundle, in their order."""
    result: list[Tensor] = []
    for name, layout in stack.graph.parameters.items():
        if layout.whole:
            result.append(torch.vmap(layout.bundles[0].view)(stack.parameters[name]))
        elif layout.bundles:
            result += torch.vmap(layout.views)(stack.parameters[name])
    return result


def _assembled(layout: Layout, parts: Sequence[Tensor], like: Tensor, outputs: int) -> Tensor:
    """One parameter of all networks, from arrays `(networks, outputs, group, out, in, tap)`."""
    if not parts:
        return like.new_zeros(*like.shape, outputs)
    meta = torch.empty(layout.shape, device="meta")

    def assemble(arrays: Sequence[Tensor]) -> Tensor:
        return layout.assemble(list(arrays), meta)

    tensors: Tensor = torch.vmap(torch.vmap(assemble))(list(parts))
    return tensors.movedim(1, -1)
