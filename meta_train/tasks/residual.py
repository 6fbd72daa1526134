"""Residual convnets with normalisation that classify small images."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import Norm, map_norm
from meta_train.tasks.model_parts import activation as make_activation
from meta_train.tasks.model_task import ModelTask


class Block(nn.Module):
    """Two normalised convolutions beside a shortcut.

    Args:
        into: number of input channels.
        out: number of output channels.
        stride: of the first convolution.
        norm: makes a normalisation of channels.
        act: makes an activation.
    """

    def __init__(
        self,
        into: int,
        out: int,
        stride: int,
        norm: Norm,
        act: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, padding=1, bias=False),
            *norm(out),
            act(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            *norm(out),
        )
        same = into == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(into, out, 1, stride, bias=False)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, into, height, width) to (batch, out, height / stride, width / stride)."""
        result: Tensor = self.act(self.shortcut(x) + self.body(x))
        return result


@register("residual")
@dataclass(frozen=True)
class Residual(Family):
    """Small ResNets: a stem, blocks of which each after the first halves the image, a linear layer.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: channels of the first block, a multiple of 4; each block doubles them.
        depth: number of blocks.
        norm: of :data:`~meta_train.tasks.model_parts.MAP_NORMS`.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (8, 16)
    depth: tuple[int, ...] = (1, 2)
    norm: tuple[str, ...] = ("batch", "group", "layer")
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, norm: str, activation: str, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field."""
        dataset = images(data, size)
        channels = dataset.splits["train"][0].shape[1]
        make_norm = map_norm(norm)

        def act() -> nn.Module:
            return make_activation(activation)

        def build() -> nn.Module:
            stem = [nn.Conv2d(channels, width, 3, padding=1, bias=False), *make_norm(width), act()]
            blocks = [Block(width, width, 1, make_norm, act)]
            for i in range(1, depth):
                blocks.append(Block(width << (i - 1), width << i, 2, make_norm, act))
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            head = nn.Linear(width << (depth - 1), dataset.classes)
            return nn.Sequential(*stem, *blocks, *pool, head)

        return ModelTask(build, dataset, cross_entropy, batch)
