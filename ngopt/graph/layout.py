"""The layout of a tensor: how its axes decompose into bundles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle

Kind: TypeAlias = Literal[
    "linear", "convolution", "embedding", "normalization", "recurrent", "elementwise", "other"
]


@dataclass(frozen=True)
class Layout:
    """How one parameter (or one state buffer of a layer, such as a running mean) is laid out.

    Args:
        name: name of the tensor in the model.
        shape: its shape.
        bundles: its parts; together they cover each entry once. Empty for an empty tensor.
        kind: the kind of layer that uses it.
        depth: where in the computation it is used, from 0 (inputs) to 1 (outputs).
        buffer: whether it is a state buffer, which no optimizer changes.
    """

    name: str
    shape: tuple[int, ...]
    bundles: tuple[Bundle, ...]
    kind: Kind = "other"
    depth: float = 0.5
    buffer: bool = False

    @property
    def whole(self) -> bool:
        """Whether one bundle covers the tensor."""
        return len(self.bundles) == 1

    def check(self, tensor: Tensor) -> None:
        """Raise `GraphError` unless the tensor has the shape that this layout describes."""
        if tuple(tensor.shape) != self.shape:
            raise GraphError(
                f"the graph describes `{self.name}` with shape {self.shape}, but the tensor has "
                f"shape {tuple(tensor.shape)}.\n  Trace the model that is being trained: "
                "ngopt.trace(model, *inputs)."
            )

    def views(self, tensor: Tensor) -> list[Tensor]:
        """Return the arrays `(group, out, in, tap)` of a tensor, one per bundle."""
        self.check(tensor)
        return [bundle.view(tensor) for bundle in self.bundles]

    def assemble(self, arrays: Sequence[Tensor], like: Tensor) -> Tensor:
        """Inverse of :meth:`views`: put arrays together into a tensor shaped like `like`.

        Args:
            arrays: one array `(group, out, in, tap)` per bundle.
            like: a tensor of this layout's shape.
        """
        if self.whole:
            return self.bundles[0].fold(arrays[0]).reshape(like.shape)
        if not arrays:
            return torch.empty_like(like)
        # Made from the arrays, not from `like`: only they may be batched by torch.func.vmap.
        result = arrays[0].new_empty(like.shape)
        for bundle, array in zip(self.bundles, arrays, strict=True):
            bundle.unfold(result).copy_(bundle.fold(array))
        return result
