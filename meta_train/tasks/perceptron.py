"""Fully connected layers with activations between them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from meta_train.tasks.activations import activation


def perceptron(sizes: Sequence[int], act: str) -> list[nn.Module]:
    """Make the layers of a multilayer perceptron.

    Args:
        sizes: of the inputs, of each hidden layer, and of the outputs.
        act: activation between two layers, of :data:`~meta_train.tasks.activations.ACTIVATIONS`.
    """
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), activation(act)]
    return layers[:-1]
