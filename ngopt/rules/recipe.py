"""A recipe: the features that go into a network, and the update that is made of its outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ngopt.features.numbers import Number
from ngopt.rules.graph_inputs import BundleInputs


class Recipe(nn.Module, ABC):
    """Computes the features of entries and bundles, and turns outputs of a network into updates.

    Attributes:
        channels: number of features of an entry.
        context: number of features of a bundle.
        outputs: number of outputs of the network for each entry.
        zero_outputs: whether the outputs of a fresh network should be zeros.
    """

    channels: ClassVar[int]
    context: ClassVar[int]
    outputs: ClassVar[int]
    zero_outputs: ClassVar[bool]

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Name and options that build this recipe again, as plain data."""

    @abstractmethod
    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """State of a parameter before its first step, with a 0-dim `step`."""

    @abstractmethod
    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Update the state by one gradient.

        Args:
            parameter: the parameter.
            gradient: of its shape.
            state: what :meth:`begin` or the last call returned; left as it is.

        Returns:
            The new state, and the signals: tensors of the parameter's shape that
            :meth:`features` uses.
        """

    @abstractmethod
    def features(self, inputs: BundleInputs) -> Tensor:
        """Features of a bundle's entries, `(group, out, in, tap, channels)`."""

    @abstractmethod
    def contexts(
        self, bundles: Sequence[BundleInputs], structures: Sequence[Sequence[float]]
    ) -> Tensor:
        """Features of the bundles, `(bundles, context)`.

        Args:
            bundles: the bundles, at least one.
            structures: for each, the features that the graph alone determines.
        """

    @abstractmethod
    def update(self, inputs: BundleInputs, outputs: Tensor, context: Tensor) -> Tensor:
        """Turn the network's outputs into an update.

        Args:
            inputs: the bundle.
            outputs: of the network, `(group, out, in, tap, outputs)`.
            context: features of the bundle, `(context,)`.

        Returns:
            Array `(group, out, in, tap)`.
        """

    def annealing_factor(self, age: Number, lowered: bool | Tensor) -> Number:
        """Factor of the learning rate; see :meth:`.Rule.annealing_factor`."""
        return 1.0

    def diagnostics(
        self, inputs: BundleInputs, outputs: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Diagnostics of :meth:`update` for the same arguments.

        Returns:
            The learned factor of the step, 0-dim, and the correction `(group, out, in, tap)` in
            units of the RMS of the base direction; None if the recipe has none.
        """
        return None
