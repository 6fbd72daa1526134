"""The activation functions that tracing tells apart."""

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
