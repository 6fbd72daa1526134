"""Graph networks that classify images given as graphs of their bright pixels."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import activation as make_activation
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.siren import centres

CHUNK = 4096


class GraphNetwork(nn.Module):
    """Linear embedding of nodes, graph convolutions with residuals, mean over nodes, linear layer.

    Args:
        features: of each node.
        width: of the embeddings.
        depth: number of convolutions, in each of which a node hears from its neighbours.
        act: activation after each convolution.
        classes: number of outputs.
    """

    def __init__(self, features: int, width: int, depth: int, act: str, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, width)
        self.convolutions = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.act = make_activation(act)
        self.head = nn.Linear(width, classes)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """Map nodes (batch, nodes, features), adjacency (batch, nodes, nodes) to classes."""
        hidden = self.embedding(nodes)
        for layer in self.convolutions:
            hidden = hidden + self.act(layer(adjacency @ hidden))
        outputs: Tensor = self.head(hidden.mean(1))
        return outputs


@cache
def graphs(dataset: Dataset, nodes: int, radius: float) -> Dataset:
    """Turn images into graphs whose nodes are the brightest pixels.

    Args:
        dataset: images (n, channels, size, size) and labels (n,).
        nodes: number of nodes; of pixels equally bright, the first are taken.
        radius: greatest distance of neighbours, in pixels.

    Returns:
        Features of nodes: two coordinates from -1 to 1 and the channels, (n, nodes, 2 + channels);
        adjacency with self-loops, normalised by the roots of the degrees, (n, nodes, nodes);
        labels (n,).

    Raises:
        MetaTrainError: if the images have fewer pixels than that.
    """
    pixels = dataset.splits["train"][0][0, 0].numel()
    if not 0 < nodes <= pixels:
        raise MetaTrainError(
            f"images of {pixels} pixels cannot be turned into graphs of {nodes} nodes.\n"
            f"  Choose 1 to {pixels} nodes, or larger images."
        )
    splits = {}
    for split, (pictures, labels) in dataset.splits.items():
        parts = [_graphs(part, nodes, radius) for part in torch.split(pictures, CHUNK)]
        features, adjacency = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        splits[split] = (features, adjacency, labels)
    return Dataset(dataset.name, splits, dataset.classes)


def _graphs(pictures: Tensor, nodes: int, radius: float) -> tuple[Tensor, Tensor]:
    """Features and adjacency of the graphs of some images."""
    size = pictures.shape[-1]
    brightest = pictures.mean(1).flatten(1).argsort(stable=True, descending=True)[:, :nodes]
    colours = pictures.flatten(2).transpose(1, 2).take_along_dim(brightest.unsqueeze(-1), 1)
    row, column = brightest // size, brightest % size
    # Whole numbers, so that what stands at exactly the radius is within it.
    place = torch.stack([row, column], -1)
    square = (place.unsqueeze(1) - place.unsqueeze(2)).square().sum(-1)
    near = (square <= radius**2).float()
    scale = near.sum(-1, keepdim=True).rsqrt()
    features = torch.cat([centres(size)[brightest], colours], -1)
    return features, scale * near * scale.transpose(1, 2)


@register("gnn")
@dataclass(frozen=True)
class GNN(Family):
    """Graph convolutional networks on the graphs of the brightest pixels of images.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        nodes: of each graph.
        radius: greatest distance of neighbours, in pixels.
        width: of the hidden layers.
        depth: number of convolutions.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: graphs per step.

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks",
    ICLR 2017; residuals as in Dwivedi et al., "Benchmarking Graph Neural Networks", JMLR 2023.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    nodes: tuple[int, ...] = (16, 24)
    radius: tuple[float, ...] = (1.5,)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (2, 3)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self,
        data: str,
        size: int,
        nodes: int,
        radius: float,
        width: int,
        depth: int,
        activation: str,
        batch: int,
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if there are more nodes than pixels.
        """
        dataset = graphs(images(data, size), nodes, radius)
        features = dataset.splits["train"][0].shape[-1]

        def build() -> nn.Module:
            return GraphNetwork(features, width, depth, activation, dataset.classes)

        return ModelTask(build, dataset, cross_entropy, batch)
