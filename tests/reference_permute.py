"""Permuting neurons by hand-written axes: slow and obvious, and knows nothing of the tracer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Named:
    """The spaces of a model and the axes of its tensors, in words.

    Args:
        spaces: such as `"model=10 head=3 qk=5:head"`; `qk` is then nested in `head`.
        axes: by tensor name, one word per axis, such as `"3*head*qk model"`: the axis runs over the
            product of its factors, a number being no neurons. `a+b` is a concatenation, `.` an axis
            without neurons; missing last axes are `.` too.
    """

    spaces: str
    axes: Mapping[str, str]

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each space: its own size last, after that of the space around it."""
        sizes: dict[str, tuple[int, ...]] = {}
        for word in self.spaces.split():
            name, size = word.split("=")
            size, _, outer = size.partition(":")
            sizes[name] = (*sizes[outer], int(size)) if outer else (int(size),)
        return sizes

    @property
    def outer(self) -> dict[str, str]:
        """The space around each nested space."""
        words = [word.split("=") for word in self.spaces.split()]
        return {name: size.partition(":")[2] for name, size in words if ":" in size}

    @property
    def hidden(self) -> tuple[str, ...]:
        """The spaces as an entry of the zoo writes them."""
        return tuple(sorted(" in ".join(map(str, reversed(s))) for s in self.sizes.values()))

    def permute(self, tensors: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
        """Permute the named spaces in all tensors, by random permutations."""
        moves = {name: torch.rand(self.sizes[name]).argsort(-1) for name in sorted(names)}
        return {
            name: self._permute(tensor, self.axes[name].split(), moves)
            if name in self.axes
            else tensor
            for name, tensor in tensors.items()
        }

    def _permute(self, tensor: Tensor, axes: list[str], moves: dict[str, Tensor]) -> Tensor:
        for dim, axis in enumerate(axes):
            if "+" in axis:
                words = axis.split("+")
                parts = tensor.split([self._length(word) for word in words], dim)
                done = [
                    self._permute(part, [*axes[:dim], word, *axes[dim + 1 :]], moves)
                    for part, word in zip(parts, words, strict=True)
                ]
                return torch.cat(done, dim)
        axes = axes + ["."] * (tensor.dim() - len(axes))
        factors, shape = [], []
        for axis, length in zip(axes, tensor.shape, strict=True):
            words = axis.split("*")
            factors += words
            shape += [length if word == "." else self._length(word) for word in words]
        index = list(torch.meshgrid([torch.arange(n) for n in shape], indexing="ij"))
        for name in self.sizes:  # outer spaces stand before those nested in them
            for dim, factor in enumerate(factors):
                if factor == name and name in moves:
                    around = [index[factors.index(self.outer[name])]] if name in self.outer else []
                    index[dim] = moves[name][(*around, index[dim])]
        return tensor.reshape(shape)[tuple(index)].reshape(tensor.shape)

    def _length(self, word: str) -> int:
        length = 1
        for factor in word.split("*"):
            length *= int(factor) if factor.isdigit() else self.sizes[factor][-1]
        return length
