"""Networks of a zoo that are wired as graphs."""

from typing import Any

import torch
from torch import Tensor, nn

from meta_train.reading.relational_networks import network
from meta_train.reading.relational_plan import Shape
from meta_train.tasks.ws_sweep import WSGraph
from meta_train.zoo.architecture import model


@model("relational")
class RelationalNetwork(nn.Module):
    """A network that is wired as a graph, its absent weights as masked zeros.

    Args:
        shape: fields of :class:`~meta_train.reading.relational_networks.Shape`.
        graph: fields of :class:`~meta_train.tasks.ws_sweep.WSGraph`.
        width: of the wired layers.
    """

    def __init__(self, shape: dict[str, Any], graph: dict[str, Any], width: int) -> None:
        super().__init__()
        self.shape = Shape(**shape)
        self.network = network(self.shape, WSGraph(**graph).graph, width, 0, "masked")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, size, size) to logits (n, classes)."""
        logits: Tensor = self.network(images)
        return logits

    def inputs(self) -> tuple[Tensor, ...]:
        """Two images."""
        shape = (2, self.shape.channels, self.shape.size, self.shape.size)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)
