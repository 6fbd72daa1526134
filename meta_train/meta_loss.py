"""From the losses of inner runs to the number that theta is learned from."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError

SMALL = 1e-6
"""Relative losses below this are taken for this before their logarithm."""


@dataclass(frozen=True)
class MetaLoss:
    """Mean over steps of the loss of each run, measured in that of the untrained model.

    Args:
        ceiling: relative losses above this count as this, so that a run that goes badly wrong does
            not outweigh all others.
        scale: `relative` losses as they are, or their `log`, for which halving a small loss counts
            as much as halving a large one.
    """

    ceiling: float = 1.5
    scale: Literal["relative", "log"] = "relative"

    def __post_init__(self) -> None:
        if self.ceiling <= 0:
            raise MetaTrainError(f"ceiling={self.ceiling} hides all losses.\n  Use ceiling > 0.")

    def __call__(self, losses: Tensor, unit: Tensor) -> Tensor:
        """Compute the meta-loss of each run.

        Args:
            losses: (steps, runs).
            unit: loss of the untrained models, (runs,).

        Returns:
            (runs,).
        """
        relative = (losses / unit).clamp(max=self.ceiling)
        if self.scale == "log":
            relative = torch.log(relative.clamp(min=SMALL))
        return relative.mean(0)
