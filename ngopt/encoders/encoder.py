"""Base of all encoders: from a batch of networks to one vector for each network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.encoders.networks import Networks, Stack
from ngopt.errors import EncoderError, check_whole
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.plain_data import from_plain, to_plain


class Encoder(nn.Module, ABC):
    """A network that reads networks.

    Args:
        width: size of what it returns for each network.
        seed: of the draw of its weights; the global random state is left alone.

    Raises:
        EncoderError: if an argument makes no sense.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__()
        check_sizes(type(self).__name__, width=width)
        self.width, self.seed = width, seed
        self.generator = torch.Generator().manual_seed(seed)

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""

    @abstractmethod
    def encode(self, networks: Networks) -> Tensor:
        """Read networks.

        Args:
            networks: any number of networks; no answer depends on the others.

        Returns:
            `(networks, width)`, in the order of the batch.

        Raises:
            EncoderError: if the encoder was made for other networks.
        """

    def forward(self, networks: Networks) -> Tensor:
        """Read networks; see :meth:`encode`."""
        return self.encode(networks)


check_sizes = partial(check_whole, EncoderError)
"""Raises `EncoderError` unless sizes are whole numbers of at least 1; see :func:`.check_whole`."""

Example = NeuralGraph | Stack | Networks | Mapping[str, Any]
"""What tells an encoder the architecture that it is made for; a mapping is a stored graph."""


class Architecture:
    """The one architecture that an encoder is made for.

    Args:
        example: a graph, or networks of this architecture.

    Raises:
        EncoderError: if there are networks of several architectures.
    """

    def __init__(self, example: Example) -> None:
        if isinstance(example, Networks):
            if len(example.stacks) != 1:
                raise EncoderError(
                    f"an encoder for one architecture cannot be made from {len(example.stacks)} "
                    "stacks of networks.\n  Give the graph of one, or use an encoder for any graph."
                )
            (example,) = example.stacks
        if isinstance(example, Stack):
            example = example.graph
        self.graph = example if isinstance(example, NeuralGraph) else from_plain(example)

    @property
    def plain(self) -> dict[str, Any]:
        """The graph as plain data, for the config of an encoder."""
        return to_plain(self.graph)

    def check(self, networks: Networks, encoder: str) -> None:
        """Raise `EncoderError` unless all networks are of this architecture."""
        expected = {name: layout.shape for name, layout in self.graph.parameters.items()}
        for stack in networks:
            found = {name: layout.shape for name, layout in stack.graph.parameters.items()}
            wrong = sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n))
            if wrong:
                name = wrong[0]
                raise EncoderError(
                    f"this {encoder} was made for networks of another architecture: `{name}` is "
                    f"{found.get(name, 'absent')}, not {expected.get(name, 'absent')} "
                    f"({len(wrong)} of {len(expected)} parameters differ).\n"
                    f"  Make one from an example of these networks: {encoder}(stack.graph)."
                )


def check_choice(encoder: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `EncoderError` unless a value is one of some names."""
    if value not in choices:
        raise EncoderError(
            f"{encoder} cannot be built with {name}={value!r}.\n"
            f"  Use {name}= one of: {', '.join(choices)}."
        )


def check_some(networks: Networks) -> None:
    """Raise `EncoderError` if there are no networks."""
    if not len(networks):
        raise EncoderError(
            "there are no networks to encode.\n  Give at least one: Networks.from_modules(models)."
        )
