"""What the default rule computes of the entries of one bundle."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.blocks import Block
from ngopt.features.entries import Scales
from ngopt.features.survey import Matrices, Survey
from ngopt.graph.matrix import Matrix


class View(NamedTuple):
    """A bundle seen as a whole and among the others.

    Args:
        scales: mean squares of its weights, its moments and its base direction.
        context: its features.
        scale: learned factor of its step.
        evidence: what share of a full step its gradients have earned.
        neurons: states of its output and of its input neurons, or none.
    """

    scales: Scales
    context: Tensor
    scale: Tensor
    evidence: Tensor
    neurons: tuple[Tensor, ...]


class Corrected(NamedTuple):
    """A bundle's direction once it is corrected.

    Args:
        direction: the corrected direction, `(group, out, in, tap)`, not yet rescaled.
        square: its mean square, 0-dim.
        after: the arrays of the bundle's moments after this step.
        corrections: raw correction of each entry, if asked for.
    """

    direction: Tensor
    square: Tensor
    after: dict[str, Tensor]
    corrections: Tensor | None


class Passes(ABC):
    """Passes over the entries of one bundle at one step, which change nothing."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Of the bundle, `(group, out, in, tap)`."""

    @abstractmethod
    def survey(self) -> tuple[Survey, Tensor]:
        """Survey of the bundle, and the mean square of its base direction."""

    @abstractmethod
    def matrices(self) -> Iterator[tuple[Block, Matrices]]:
        """The matrices that carry messages, block by block; after :meth:`survey`."""

    @abstractmethod
    def corrected(self, matrix: Matrix | None, view: View, watched: bool) -> Corrected:
        """The base direction, corrected.

        Args:
            matrix: the bundle as matrices whose momentum is orthogonalized; None for Adam's
                direction.
            view: the bundle as a whole.
            watched: whether to return corrections.
        """
