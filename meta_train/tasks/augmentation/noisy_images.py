"""Shifted, mirrored, brighter and darker images."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import Wrapped
from meta_train.tasks.task import Batch, Task, Tensors


class NoisyImages(Wrapped):
    """The images of training batches are changed at random, each differently.

    Other splits keep their images.

    Args:
        inner: a task whose batches begin with images, (runs, batch, channels, height, width).
        shift: greatest shift in pixels, in each direction; zeros come in from outside.
        flip: whether half of the images are mirrored, left to right.
        gain: greatest factor of brightness, at least 1; log-uniform from `1 / gain`.

    Raises:
        MetaTrainError: if the shift is negative or the gain below 1.
    """

    def __init__(self, inner: Task, shift: int = 1, flip: bool = True, gain: float = 1.5) -> None:
        if shift < 0 or not 1 <= gain < math.inf:
            raise MetaTrainError(
                f"cannot shift images by up to {shift} pixels at a gain of up to {gain}.\n"
                "  Use a shift of 0 or more and a finite gain of at least 1."
            )
        super().__init__(inner, f"noisy images(shift={shift}, flip={flip}, gain={gain:g})")
        self.shift, self.flip, self.gain = shift, flip, gain

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw one batch for each run."""
        images, *others = self.inner.batches(context, runs, generator, split)
        if split == "train":
            if images.dim() != 5:
                raise MetaTrainError(
                    f"the batches of `{self.inner.name}` do not begin with images: their shape is "
                    f"{tuple(images.shape)}.\n  Use a task with images (runs, batch, channels, "
                    "height, width)."
                )
            images = self._change(images.flatten(0, 1), generator).view_as(images)
        return (images, *others)

    def _change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change images (n, channels, height, width)."""
        n, _, height, width = images.shape
        moves = torch.randint(-self.shift, self.shift + 1, (2, n, 1), generator=generator)
        mirrored = (torch.rand(n, 1, generator=generator) < 0.5) & self.flip
        exponents = 2 * torch.rand(n, 1, 1, 1, generator=generator) - 1
        gains = (exponents * math.log(self.gain)).exp()
        rows, columns = torch.arange(height), torch.arange(width)
        columns = torch.where(mirrored, columns.flip(0), columns)
        rows, columns = (rows + moves[0] + self.shift), (columns + moves[1] + self.shift)
        framed = pad(images, [self.shift] * 4).movedim(1, -1)  # n, height, width, channels
        picked = framed[
            torch.arange(n, device=images.device)[:, None, None],
            rows[:, :, None].to(images.device),
            columns[:, None, :].to(images.device),
        ]
        return picked.movedim(-1, 1) * gains.to(images)
