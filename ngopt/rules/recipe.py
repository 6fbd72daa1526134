"""What surrounds a network: the features that go in, the step that is made of what comes out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ngopt.features.numbers import Number
from ngopt.rules.scene import Part


class Recipe(nn.Module, ABC):
    """Features of entries and bundles in, an update out; the network between them is free.

    Attributes:
        channels: number of features of an entry.
        context: number of features of a bundle.
        outputs: number of numbers that the network says about an entry.
        zero_outputs: whether the outputs of a fresh network should be zeros.
    """

    channels: ClassVar[int]
    context: ClassVar[int]
    outputs: ClassVar[int]
    zero_outputs: ClassVar[bool]

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Name and options, as plain data: what builds this recipe again."""

    @abstractmethod
    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """State of a parameter before its first step, with a 0-dim `step`."""

    @abstractmethod
    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Take one gradient in.

        Args:
            parameter: the parameter.
            gradient: of its shape.
            state: what :meth:`begin` or the last call returned; left as it is.

        Returns:
            The new state, and the signals: tensors of the parameter's shape.
        """

    @abstractmethod
    def features(self, part: Part) -> Tensor:
        """Features of a bundle's entries, `(group, out, in, tap, channels)`."""

    @abstractmethod
    def contexts(self, parts: Sequence[Part], structures: Sequence[Sequence[float]]) -> Tensor:
        """Features of the bundles, `(bundles, context)`.

        Args:
            parts: the bundles, at least one.
            structures: for each, the features that the graph alone determines.
        """

    @abstractmethod
    def update(self, part: Part, outputs: Tensor, context: Tensor) -> Tensor:
        """Turn what the network says into an update.

        Args:
            part: the bundle.
            outputs: of the network, `(group, out, in, tap, outputs)`.
            context: features of the bundle, `(context,)`.

        Returns:
            Array `(group, out, in, tap)`.
        """

    def annealed(self, age: Number, lowered: bool | Tensor) -> Number:
        """Factor of the learning rate; see :meth:`.Rule.annealed`."""
        return 1.0

    def insides(self, part: Part, outputs: Tensor, context: Tensor) -> tuple[Tensor, Tensor] | None:
        """Tell an observer what :meth:`update` makes of the same arguments, if there is more to it.

        Returns:
            The learned factor of the step, 0-dim, and the correction `(group, out, in, tap)` in
            units of the RMS of the base direction; None if the recipe has no such parts.
        """
        return None
