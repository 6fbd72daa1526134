"""The networks of zoos: convolutional, recurrent, and wired as graphs. Sine networks: `siren`."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from meta_train.reading.relational_networks import network
from meta_train.reading.relational_plan import Shape
from meta_train.tasks.model_parts import activation
from meta_train.tasks.ws_sweep import WSGraph
from meta_train.zoo.architecture import model

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "leaky_relu", "identity")
"""Of varied networks; the small zoo's has the first or the third."""

CHANNELS, KERNELS, LAYERS = (4, 8, 16, 32), (3, 5, 7), (2, 3, 4, 5)
"""What the layers of varied networks are drawn from, and their number."""

NO_SKIP = -1


@model("conv_net")
class ConvNet(nn.Module):
    """Convolutions, the mean over the image, and a linear layer.

    Args:
        inputs: channels of the images.
        size: of the images, in pixels.
        channels: of each layer.
        kernels: size of the kernel of each layer.
        strides: of each layer.
        activations: of each layer.
        skips: for each layer, the earlier one whose outputs are added before the activation, on
            the channels that both have; or :data:`NO_SKIP`.
        padded: whether images keep their size but for strides.
        classes: number of outputs.
    """

    def __init__(
        self,
        inputs: int,
        size: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        activations: Sequence[str],
        skips: Sequence[int],
        padded: bool,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.shape, self.skips = (inputs, size, size), tuple(skips)
        self.dropout = 0.0
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, out, kernel, stride, kernel // 2 if padded else 0)
            for into, out, kernel, stride in zip(
                [inputs, *channels], channels, kernels, strides, strict=False
            )
        )
        self.activations = nn.ModuleList(activation(name) for name in activations)
        self.out = nn.Linear(channels[-1], classes)

    def inputs(self) -> tuple[Tensor, ...]:
        """Two empty images."""
        return (torch.zeros(2, *self.shape),)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, inputs, size, size) to logits (batch, classes).

        In training mode, outputs of each layer are dropped with the probability `dropout`.
        """
        outputs: list[Tensor] = []
        for convolution, act, skip in zip(
            self.convolutions, self.activations, self.skips, strict=True
        ):
            images = convolution(images)
            if skip != NO_SKIP:
                images = images + shared_channels(outputs[skip], images.shape[1])
            images = act(images)
            if self.dropout:
                images = dropout(images, self.dropout, self.training)
            outputs.append(images)
        return cast(Tensor, self.out(images.mean((2, 3))))


def shared_channels(images: Tensor, channels: int) -> Tensor:
    """The first channels of images (batch, their own, ...), and zeros where there are too few."""
    shared = images[:, :channels]
    return pad(shared, (0, 0, 0, 0, 0, channels - shared.shape[1]))


def small_config(activation: str, inputs: int = 1, size: int = 32) -> dict[str, Any]:
    """Of the small zoo's network: 4,970 parameters for images of one channel.

    Source: Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020.
    """
    layers = {"channels": [16] * 3, "kernels": [3] * 3, "strides": [2] * 3}
    own = {"activations": [activation] * 3, "skips": [NO_SKIP] * 3, "padded": False}
    return {"inputs": inputs, "size": size, **layers, **own}


def varied_config(generator: torch.Generator, inputs: int = 3, size: int = 16) -> dict[str, Any]:
    """Draw an architecture: layers, channels, kernels, activations, skips.

    Images keep their size, but the first layer has stride 2, for speed. A layer from the third on
    has, with probability 1/2, a skip from an earlier layer that is not its neighbour.

    Source: the ranges are those of Kofinas et al., "Graph Neural Networks for Learning Equivariant
    Representations of Neural Networks", ICLR 2024, where the stride is 1.
    """

    def chosen(values: Sequence[Any], count: int) -> list[Any]:
        return [values[i] for i in torch.randint(len(values), (count,), generator=generator)]

    (layers,) = chosen(LAYERS, 1)
    skips = [NO_SKIP] * layers
    for layer in range(2, layers):
        if chosen((False, True), 1)[0]:
            (skips[layer],) = chosen(range(layer - 1), 1)
    return {
        "inputs": inputs,
        "size": size,
        "channels": chosen(CHANNELS, layers),
        "kernels": chosen(KERNELS, layers),
        "strides": [2, *[1] * (layers - 1)],
        "activations": chosen(ACTIVATIONS, layers),
        "skips": skips,
        "padded": True,
    }


@model("lstm")
class LSTMReader(nn.Module):
    """LSTM layers, and a linear read-out of each hidden state of the top one.

    Args:
        inputs: number of numbers read in each step.
        hidden: number of neurons of each layer.
        layers: number of layers.
        outputs: number of numbers answered in each step.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.read_out = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Read sequences `(batch, length, inputs)`; answer `(batch, length, outputs)`."""
        answers: Tensor = self.read_out(self.lstm(x)[0])
        return answers

    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs of a forward pass."""
        return (torch.zeros(2, 3, self.lstm.input_size),)


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
