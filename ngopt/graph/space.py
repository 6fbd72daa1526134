"""A space: a set of neurons that an axis of a parameter runs over."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Space:
    """A set of neurons. Two axes with the same space run over the same neurons.

    Args:
        name: identity of the space within its graph.
        size: number of neurons (for a nested space: per neuron of the spaces it is nested in).
        pinned: whether the neurons have fixed places (inputs and outputs of the model, or anything
            that an operation does not treat alike). The neurons of a space that is not pinned are
            *hidden*: they can be permuted, in all tensors at once, without changing the model.
        within: names of the spaces this one is nested in, such as the heads around a head's
            dimensions. The neurons of a nested space are permuted independently for each neuron of
            the spaces around it.
        reason: why the space is pinned, empty for a hidden one.
        activation: which of :data:`~ngopt.graph.activations.ACTIVATIONS` are applied to the
            neurons, separated by spaces if there are several; empty if the model was not traced.
            Spaces that differ in nothing else are equal: their neurons are permuted alike.
    """

    name: str
    size: int
    pinned: bool = False
    within: tuple[str, ...] = ()
    reason: str = ""
    activation: str = field(default="", compare=False)

    def __str__(self) -> str:
        nested = f" within {' '.join(self.within)}" if self.within else ""
        state = f" pinned ({self.reason})" if self.pinned else ""
        return f"{self.name}({self.size}){nested}{state}"
