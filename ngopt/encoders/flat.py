"""All parameters in a row: the baseline that knows nothing of permutations."""

from typing import Any

import torch
from torch import Tensor

from ngopt.encoders.encoder import Architecture, Encoder, Example, check_sizes, check_some
from ngopt.encoders.networks import Networks
from ngopt.graph.permute import permute
from ngopt.nn.feed_forward import FeedForward


class FlatMLP(Encoder):
    """A multilayer perceptron of all parameters of a network, one after the other.

    It depends on the order of hidden neurons. With `augment`, they are permuted at random in each
    pass of training, so that it may learn not to.

    Args:
        example: a graph or networks of the one architecture that is read.
        width: size of the encoding, and number of units of each hidden layer.
        layers: number of hidden layers.
        augment: whether to permute hidden neurons at random in training, each network on its own.
            Where one set of neurons stands on both ends of a weight, both are permuted alike.
        seed: of the draw of the weights and of the permutations.

    Raises:
        EncoderError: if a size makes no sense.
    """

    def __init__(
        self,
        example: Example,
        width: int = 128,
        layers: int = 2,
        *,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        check_sizes("FlatMLP", layers=layers)
        self.architecture, self.layers, self.augment = Architecture(example), layers, augment
        layouts = self.architecture.graph.parameters.values()
        inputs = sum(bundle.numel for layout in layouts for bundle in layout.bundles)
        self.net = FeedForward([inputs, *[width] * layers, width], self.generator)
        self.mean: Tensor
        self.size: Tensor
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("size", torch.ones(inputs))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {
            "example": self.architecture.plain,
            "width": self.width,
            "layers": self.layers,
            "augment": self.augment,
            "seed": self.seed,
        }

    def fit_scale(self, networks: Networks) -> None:
        """Measure mean and size of each tensor, for what is read from now on.

        All entries of a tensor share them, so that the order of neurons makes no difference.
        """
        self._check(networks)
        for name, place in self._places().items():
            x = torch.cat([stack.parameters[name].flatten() for stack in networks]).double()
            size = x.std(correction=0)
            self.mean[place] = x.mean().to(self.mean)
            self.size[place] = torch.where(size > 0, size, 1).to(self.size)

    def encode(self, networks: Networks) -> Tensor:
        """Return a vector for each network, `(networks, width)`; as every `Encoder` does."""
        self._check(networks)
        rows = []
        for stack in networks:
            parameters = dict(stack.parameters)
            if self.augment and self.training:
                parameters = self._permuted(parameters, len(stack))
            x = torch.cat([parameters[name].flatten(1) for name in self._places()], 1)
            rows.append(self.net((x - self.mean.to(x)) / self.size.to(x)))
        return networks.in_order(rows)

    def _check(self, networks: Networks) -> None:
        check_some(networks)
        self.architecture.check(networks, "FlatMLP")

    def _permuted(self, parameters: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        graph = self.architecture.graph
        drawn = {
            space.name: torch.rand(
                count, *(graph.spaces[w].size for w in space.within), space.size,
                generator=self.generator,
            ).argsort(-1)
            for space in graph.hidden
        }  # fmt: skip

        def one(tensors: dict[str, Tensor], permutations: dict[str, Tensor]) -> dict[str, Tensor]:
            return permute(graph, tensors, permutations)

        return torch.vmap(one)(parameters, drawn)

    def _places(self) -> dict[str, slice]:
        places, start = {}, 0
        for name, layout in self.architecture.graph.parameters.items():
            size = sum(bundle.numel for bundle in layout.bundles)
            places[name] = slice(start, start + size)
            start += size
        return places
