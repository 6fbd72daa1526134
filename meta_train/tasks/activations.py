"""Activations by name."""

from torch import nn

from meta_train.spec import look_up

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """Make an activation.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(ACTIVATIONS, name, "activation")()
