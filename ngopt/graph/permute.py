"""Permuting neurons: the same permutation in all the tensors that share a space."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle
from ngopt.graph.neural_graph import NeuralGraph

Permutations = dict[str, Tensor]
"""By space name, integers of shape `(sizes of the spaces around it ..., size)`."""


def random_permutations(
    graph: NeuralGraph, seed: int, spaces: Iterable[str] | None = None
) -> Permutations:
    """Draw a permutation of the neurons of each hidden space.

    Args:
        graph: the graph.
        seed: of the draw; the global random state is left alone.
        spaces: names of the spaces to permute; all hidden ones by default.

    Returns:
        For each space, indices of shape `(sizes of the spaces around it ..., size)`.

    Raises:
        GraphError: if a named space is unknown or pinned.
    """
    generator = torch.Generator().manual_seed(seed)
    names = [space.name for space in graph.hidden] if spaces is None else list(spaces)
    result = {}
    for name in names:
        space = graph.spaces.get(name)
        if space is None or space.pinned:
            state = "unknown" if space is None else f"pinned ({space.reason})"
            raise GraphError(
                f"cannot permute space `{name}`: it is {state}. Hidden spaces of this graph: "
                f"{', '.join(s.name for s in graph.hidden) or 'none'}."
            )
        outer = [graph.spaces[w].size for w in space.within]
        result[name] = torch.rand(*outer, space.size, generator=generator).argsort(-1)
    return result


def permute(
    graph: NeuralGraph, tensors: Mapping[str, Tensor], permutations: Permutations | int = 0
) -> dict[str, Tensor]:
    """Permute hidden neurons in all given tensors. The model that they make up computes the same.

    Args:
        graph: the graph.
        tensors: tensors by name, shaped like the parameters (weights, gradients, momenta, ...).
            State buffers, such as the running means of a norm, belong to the model too.
        permutations: what :func:`.random_permutations` returned, or a seed for it.

    Returns:
        New tensors; those the graph does not describe are returned as they are.
    """
    if isinstance(permutations, int):
        permutations = random_permutations(graph, permutations)
    result = {}
    for name, tensor in tensors.items():
        if not graph.describes(name):
            result[name] = tensor
            continue
        layout = graph.layout(name)
        layout.check(tensor)
        permuted = tensor.clone()
        for bundle in layout.bundles:
            part = _permute_bundle(graph, bundle, bundle.unfold(tensor), permutations)
            bundle.unfold(permuted).copy_(part)
        result[name] = permuted
    return result


def _permute_bundle(
    graph: NeuralGraph, bundle: Bundle, part: Tensor, permutations: Permutations
) -> Tensor:
    # Nested spaces first: entry (h, d) comes from (p(h), q[p(h)](d)).
    dims = [d for d, factor in enumerate(bundle.factors) if factor in permutations]
    dims.sort(key=lambda d: -len(graph.spaces[str(bundle.factors[d])].within))
    for dim in dims:
        space = graph.spaces[str(bundle.factors[dim])]
        index = permutations[space.name].to(part.device)
        around = [_dim_of(bundle, outer, dim) for outer in space.within]
        shape = [part.shape[d] if d in (*around, dim) else 1 for d in range(part.dim())]
        order = sorted(range(len(around) + 1), key=[*around, dim].__getitem__)
        index = index.permute(order).reshape(shape).expand(part.shape)
        part = part.gather(dim, index)
    return part


def _dim_of(bundle: Bundle, name: str, near: int) -> int:
    """Dimension that runs over a space; where there are two, the one on the axis of `near`."""
    dims = [d for d, factor in enumerate(bundle.factors) if factor == name]
    if not dims:
        raise GraphError(
            f"`{bundle.parameter}` has neurons nested in `{name}`, but no axis runs over `{name}`."
        )
    return min(dims, key=lambda d: (bundle.axes[d] != bundle.axes[near], abs(d - near)))
