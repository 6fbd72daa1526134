"""Gradient clipping: a gradient far larger than usual is scaled down before the rule sees it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ngopt.backends.dispatch import is_free_to_read, uncompiled
from ngopt.optim.magnitudes import magnitudes
from ngopt.rules.shards import Shards

LARGEST = 1e12
"""Largest magnitude after clipping: sums of many squares of it are finite in float32."""

MEMORY = 100
"""Number of steps over which the usual size of a gradient is averaged."""


@dataclass(eq=False)
class GradientClipper:
    """Clips gradients that are many times larger than usual, parameter by parameter.

    The size of a gradient is its largest magnitude. Its usual size is a running mean over
    :data:`MEMORY` steps of the clipped sizes. A gradient that starts at zero is not held back for
    long: it reaches its size within some steps, whose directions are right.

    Args:
        places: index of each parameter in the two tensors, by name.
        usual: usual size of each gradient, `(parameters,)`.
        count: number of gradients so far, `(parameters,)`.

    Source: clipping by a running norm, as in Wang et al., "AdaGC: Improving Training Stability for
    Large Language Model Pretraining", 2025.
    """

    places: dict[str, int] = field(default_factory=dict)
    usual: Tensor = field(default_factory=lambda: torch.zeros(0))
    count: Tensor = field(default_factory=lambda: torch.zeros(0))
    index: Tensor | None = None
    """Indices of the last step's parameters in these; None for all parameters in order."""
    _last_indices: list[int] = field(default_factory=list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GradientClipper) and self.as_plain() == other.as_plain()

    @uncompiled
    def clipped(
        self, gradients: Mapping[str, Tensor], limit: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Clip the gradients of a step.

        Args:
            gradients: by name of the parameter, all on one device.
            limit: largest size, in units of the usual size; infinite to clip nothing.

        Returns:
            The clipped gradients, and whether all gradients are finite, as a 0-dim bool tensor. If
            not, the usual sizes stay as they are.
        """
        factors, finite = self.factors(gradients, limit)
        return scale_gradients(gradients, factors), finite

    @uncompiled
    def factors(
        self, gradients: Mapping[str, Tensor], limit: float, shards: Shards | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Return the factors that clip gradients, `(gradients,)`; None if all are 1.

        Args:
            gradients: as for :meth:`clipped`.
            limit: as for :meth:`clipped`.
            shards: processes that the gradients are sharded over, if any.
        """
        if not gradients:
            return None, torch.tensor(True)
        sizes = magnitudes(list(gradients.values()))
        if shards is not None:
            sizes = shards.largest(sizes)
        finite = sizes.max() < math.inf
        if math.isinf(limit) or sizes.is_meta:  # there are no sizes on the meta device
            return None, finite
        # Half precision is too coarse for the running mean and its weights.
        sizes = sizes.float()
        indices = self._indices(gradients, sizes.device)
        # In place, since a CUDA graph holds their addresses.
        usual, count = self.usual, self.count
        if indices is not None:
            usual, count = usual[indices], count[indices]
        # Gradients that were always 0 have no usual size, and the largest bound.
        bound = torch.threshold(usual * limit, 0.0, LARGEST).clamp_(max=LARGEST)
        count += finite
        share = finite / count.clamp(1.0, MEMORY)
        usual.lerp_(torch.fmin(sizes, bound), share)
        if indices is not None:
            self.usual[indices], self.count[indices] = usual, count
        too_large = sizes > bound
        # On the CPU the answer costs nothing, and gradients are almost never clipped.
        if is_free_to_read(too_large) and not too_large.any():
            return None, finite
        return (bound / sizes).clamp_(max=1.0), finite

    def _indices(self, names: Iterable[str], device: torch.device) -> Tensor | None:
        """Indices of parameters in the tensors; None for all parameters in order."""
        found = [self.places.setdefault(name, len(self.places)) for name in names]
        new = len(self.places) - len(self.usual)
        if new or self.usual.device != device:
            self.usual, self.count = (
                torch.cat([old.to(device), torch.zeros(new, device=device)])
                for old in (self.usual, self.count)
            )
        if found == list(range(len(self.places))):
            self.index = None
        elif found != self._last_indices or self.index is None or self.index.device != device:
            self.index = torch.tensor(found, device=device)
        self._last_indices = found
        return self.index

    def as_plain(self) -> dict[str, list[float]]:
        """By name of the parameter, the usual size of its gradient and the number of steps."""
        both = torch.stack([self.usual, self.count], 1).tolist()
        return {name: both[place] for name, place in self.places.items()}

    @classmethod
    def of_plain(cls, data: Mapping[str, Iterable[float]]) -> "GradientClipper":
        """Inverse of :meth:`as_plain`."""
        pairs = [(float(usual), float(count)) for usual, count in data.values()]
        usual, count = torch.tensor(pairs, dtype=torch.float32).reshape(len(pairs), 2).unbind(1)
        return cls({name: place for place, name in enumerate(data)}, usual.clone(), count.clone())


@uncompiled
def scale_gradients(gradients: Mapping[str, Tensor], factors: Tensor | None) -> dict[str, Tensor]:
    """Multiply each gradient by its factor; None leaves all of them unscaled."""
    if factors is None:
        return dict(gradients)
    pairs = zip(gradients.items(), factors.unbind(), strict=True)
    return {name: gradient * factor.to(gradient) for (name, gradient), factor in pairs}
