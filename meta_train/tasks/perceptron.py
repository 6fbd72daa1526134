"""Fully connected layers with activations between them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from meta_train.tasks.activations import activation
from meta_train.tasks.norms import vector_norm


def perceptron(sizes: Sequence[int], act: str, norm: str = "none") -> list[nn.Module]:
    """Make the layers of a multilayer perceptron.

    Args:
        sizes: of the inputs, of each hidden layer, and of the outputs.
        act: activation between two layers, of :data:`~meta_train.tasks.activations.ACTIVATIONS`.
        norm: before each activation, of :data:`~meta_train.tasks.norms.VECTOR_NORMS`. There are no
            biases before normalisation over the batch, which takes them away.
    """
    make_norm = vector_norm(norm)
    *hidden, last = pairwise(sizes)
    layers: list[nn.Module] = []
    for into, out in hidden:
        layers += [nn.Linear(into, out, bias=norm != "batch"), *make_norm(out), activation(act)]
    return [*layers, nn.Linear(*last)]
