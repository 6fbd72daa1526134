"""Plain convnets that classify small images."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import activation as make_activation
from meta_train.tasks.model_parts import map_norm
from meta_train.tasks.model_task import ModelTask


@register("convnet")
@dataclass(frozen=True)
class ConvNet(Family):
    """Convolutions, the first with stride 2, global average pooling, and a linear layer.

    The first convolution has `width` channels, the others twice as many. So
    `convnet:data=fashion_mnist,size=28,width=16,depth=3,batch=128` is the net 1-16-32-32 that the
    paper meta-trains on, and `convnet:data=cifar10,size=32,width=32,depth=3,batch=128` the net
    3-32-64-64 that it tests on.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: channels of the first convolution.
        depth: number of convolutions.
        kernel: size of the kernels, odd.
        norm: before each activation, of :data:`~meta_train.tasks.model_parts.MAP_NORMS`; groups
            need a width that is a multiple of 4. There are no biases before normalisation over the
            batch.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024, section on learning to optimize.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (8, 16)
    depth: tuple[int, ...] = (2, 3)
    kernel: tuple[int, ...] = (3,)
    norm: tuple[str, ...] = ("none",)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self,
        data: str,
        size: int,
        width: int,
        depth: int,
        kernel: int,
        norm: str,
        activation: str,
        batch: int,
    ) -> ModelTask:
        """Build the task of one choice of each field."""
        dataset, make_norm = images(data, size), map_norm(norm)
        sizes = [dataset.splits["train"][0].shape[1], width, *[2 * width] * (depth - 1)]

        def build() -> nn.Module:
            layers: list[nn.Module] = []
            for i, (into, out) in enumerate(pairwise(sizes)):
                stride = 2 if i == 0 else 1
                layers += [
                    nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=norm != "batch"),
                    *make_norm(out),
                    make_activation(activation),
                ]
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return nn.Sequential(*layers, *pool, nn.Linear(sizes[-1], dataset.classes))

        return ModelTask(build, dataset, cross_entropy, batch)
