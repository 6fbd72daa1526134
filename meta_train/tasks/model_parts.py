"""Parts of models that several families share: activations, norms, perceptrons, patches, a loss."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.errors import MetaTrainError
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


Norm: TypeAlias = Callable[[int], list[nn.Module]]
"""Makes the layers, one or none, that normalise so many neurons or channels."""

MAP_NORMS: dict[str, Norm] = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels, track_running_stats=False)],
    "group": lambda channels: [nn.GroupNorm(4, channels)],
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
}
"""Normalisations of maps (batch, channels, height, width)."""

VECTOR_NORMS: dict[str, Norm] = {
    "none": lambda width: [],
    "batch": lambda width: [nn.BatchNorm1d(width, track_running_stats=False)],
    "layer": lambda width: [nn.LayerNorm(width)],
}
"""Normalisations of vectors (batch, width)."""


def map_norm(name: str) -> Norm:
    """Find a normalisation of maps.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(MAP_NORMS, name, "normalisation of maps")


def vector_norm(name: str) -> Norm:
    """Find a normalisation of vectors.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(VECTOR_NORMS, name, "normalisation of vectors")


def perceptron(sizes: Sequence[int], act: str, norm: str = "none") -> list[nn.Module]:
    """Make the layers of a multilayer perceptron.

    Args:
        sizes: of the inputs, of each hidden layer, and of the outputs.
        act: activation between two layers, of :data:`ACTIVATIONS`.
        norm: before each activation, of :data:`~meta_train.tasks.model_parts.VECTOR_NORMS`. There
            are no biases before normalisation over the batch, which takes them away.
    """
    make_norm = vector_norm(norm)
    *hidden, last = pairwise(sizes)
    layers: list[nn.Module] = []
    for into, out in hidden:
        layers += [nn.Linear(into, out, bias=norm != "batch"), *make_norm(out), activation(act)]
    return [*layers, nn.Linear(*last)]


def patches(images: Tensor, size: int) -> Tensor:
    """Cut images into patches, row by row.

    Args:
        images: (batch, channels, height, width).
        size: of the patches in pixels; divides height and width.

    Returns:
        (batch, patches, channels * size * size).

    Raises:
        MetaTrainError: if the patches do not tile the images.
    """
    height, width = images.shape[-2:]
    if height % size or width % size:
        raise MetaTrainError(
            f"images of {height} x {width} pixels cannot be cut into patches of {size} x {size}.\n"
            "  Choose sizes of patches that divide the size of the images."
        )
    grid = (height // size, size, width // size, size)
    tiles = images.reshape(*images.shape[:2], *grid)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def next_character(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats per character.

    Args:
        logits: (batch, length, characters).
        targets: (batch, length) int64.
    """
    return cross_entropy(logits.flatten(0, 1), targets.flatten())
