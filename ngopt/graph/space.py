"""A space: a set of neurons that an axis of a parameter runs over, and their activations."""

from dataclasses import dataclass, field

ACTIVATIONS = (
    "relu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "leaky_relu",
    "sin",
    "elu",
    "softplus",
    "other",
    "none",
)
"""Functions that are applied to neurons, entry by entry; `other` for those without a name here."""

_OTHER_NAMES = {"rnn_relu": "relu", "rnn_relu_cell": "relu"} | dict.fromkeys(
    ("lstm", "gru", "rnn_tanh", "lstm_cell", "gru_cell", "rnn_tanh_cell"), "tanh"
)
_OTHERS = """
celu cos erf exp glu hardshrink hardsigmoid hardswish hardtanh log_sigmoid logsigmoid mish prelu
relu6 rrelu selu softshrink softsign square tanhshrink threshold
"""
_BY_OPERATION = (
    {name: name for name in ACTIVATIONS[:-2]} | dict.fromkeys(_OTHERS.split(), "other")
) | _OTHER_NAMES


def activation_of(operation: str) -> str:
    """Which of :data:`ACTIVATIONS` a torch function of this name is; empty if it is none."""
    return _BY_OPERATION.get(operation, "")


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
        activation: which of :data:`~ngopt.graph.space.ACTIVATIONS` are applied to the
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
