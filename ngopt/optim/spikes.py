"""A gradient that is suddenly far larger than ever is scaled down before the rule remembers it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ngopt.backends.switch import known_at_once
from ngopt.features.constants import constant
from ngopt.optim.magnitudes import magnitudes
from ngopt.optim.uncompiled import uncompiled
from ngopt.rules.shards import Shards

LARGEST = 1e12
"""Largest magnitude of a gradient that is let pass: sums of many squares of it are finite."""

MEMORY = 100
"""Number of steps over which the usual size of a gradient is averaged."""


@dataclass(eq=False)
class Spikes:
    """Keeps account of the usual size of the gradient of each parameter.

    The size of a gradient is its largest magnitude, and the usual one the mean of those let pass
    before, over :data:`MEMORY` steps. A gradient that begins at zero can grow as fast as it wants:
    it comes to its size within some steps, whose directions are right.

    Source: clipping by a running norm, as in Wang et al., "AdaGC: Improving Training Stability for
    Large Language Model Pretraining", 2025.
    """

    places: dict[str, int] = field(default_factory=dict)
    usual: Tensor = field(default_factory=lambda: torch.zeros(0))
    count: Tensor = field(default_factory=lambda: torch.zeros(0))
    index: Tensor | None = None
    """Places in these of the gradients of the last step, if they were not those of all in order."""
    _found: list[int] = field(default_factory=list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spikes) and self.as_plain() == other.as_plain()

    @uncompiled
    def clipped(
        self, gradients: Mapping[str, Tensor], limit: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Begin a step.

        Args:
            gradients: by name of the parameter, all on one device.
            limit: in units of the usual size; infinite for gradients as they are.

        Returns:
            The same gradients, or smaller ones, and whether all of them are finite, as a 0-dim bool
            tensor; if not, this step leaves no trace here.
        """
        factors, finite = self.factors(gradients, limit)
        return scaled_down(gradients, factors), finite

    @uncompiled
    def factors(
        self, gradients: Mapping[str, Tensor], limit: float, shards: Shards | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Do the same, but return factors of the gradients, `(gradients,)`, or None for 1.

        Args:
            gradients: as for :meth:`clipped`.
            limit: as for :meth:`clipped`.
            shards: processes that share the gradients, if any do.
        """
        if not gradients:
            return None, torch.tensor(True)
        together = magnitudes(list(gradients.values()))
        if shards is not None:
            together = shards.largest(together)
        finite = together.max() < math.inf
        if math.isinf(limit) or together.is_meta:  # there are no sizes on the meta device
            return None, finite
        # In half precision neither the mean nor its weights would be.
        together = together.float()
        where = self._where(gradients, together.device)
        usual, count = self.usual, self.count
        if where is not None:
            usual, count = usual[where], count[where]
        none, one, most, memory, times = constant(
            (0.0, 1.0, LARGEST, MEMORY, limit), usual
        ).unbind()
        bound = torch.minimum(torch.where(usual > none, usual * times, most), most)
        passed = torch.minimum(together, bound)
        share = torch.minimum(count + one, memory).reciprocal_()
        usual = torch.where(finite, torch.lerp(usual, passed, share), usual)
        count = count + finite
        if where is None:
            # In place: a CUDA graph knows their addresses.
            self.usual.copy_(usual)
            self.count.copy_(count)
        else:
            self.usual[where], self.count[where] = usual, count
        spiked = together > bound
        # On the CPU it costs nothing to know, and there is next to never something to do.
        if known_at_once(spiked) and not spiked.any():
            return None, finite
        return torch.where(spiked, bound / together, one), finite

    def _where(self, names: Iterable[str], device: torch.device) -> Tensor | None:
        """Places of parameters in the tensors; None if they are those of all in order."""
        found = [self.places.setdefault(name, len(self.places)) for name in names]
        new = len(self.places) - len(self.usual)
        if new or self.usual.device != device:
            self.usual, self.count = (
                torch.cat([old.to(device), torch.zeros(new, device=device)])
                for old in (self.usual, self.count)
            )
        if found == list(range(len(self.places))):
            self.index = None
        elif found != self._found or self.index is None or self.index.device != device:
            self.index = torch.tensor(found, device=device)
        self._found = found
        return self.index

    def as_plain(self) -> dict[str, list[float]]:
        """By name of the parameter, the usual size of its gradient and the number of steps."""
        both = torch.stack([self.usual, self.count], 1).tolist()
        return {name: both[place] for name, place in self.places.items()}

    @classmethod
    def of_plain(cls, data: Mapping[str, Iterable[float]]) -> "Spikes":
        """Inverse of :meth:`as_plain`."""
        pairs = [(float(usual), float(count)) for usual, count in data.values()]
        usual, count = torch.tensor(pairs, dtype=torch.float32).reshape(len(pairs), 2).unbind(1)
        return cls({name: place for place, name in enumerate(data)}, usual.clone(), count.clone())


@uncompiled
def scaled_down(gradients: Mapping[str, Tensor], factors: Tensor | None) -> dict[str, Tensor]:
    """Multiply each gradient by its factor, if there are any."""
    if factors is None:
        return dict(gradients)
    pairs = zip(gradients.items(), factors.unbind(), strict=True)
    return {name: gradient * factor.to(gradient) for (name, gradient), factor in pairs}
