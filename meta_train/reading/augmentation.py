"""Networks changed at random in training: images moved and turned, weights with noise."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.zoo.siren import ImageNetwork
from ngopt.encoders.networks import Networks, Stack

FIRST = ("layers.0.weight", "layers.0.bias")
"""The first layer of a network that is an image, through which its image is moved."""


@dataclass(frozen=True)
class Augmentation:
    """How networks are changed each time they are read in training; nothing by default.

    The first three are for networks that are images: the changed network is the image that is
    moved, turned or resized.

    Args:
        translate: largest move along each axis; an image is 2 wide.
        rotate: largest turn, in degrees, to either side.
        scale: largest change of size, as a fraction.
        noise: standard deviation of what is added to weights, in units of that of their tensor.
        drop: share of the weights that are set to 0.
    """

    translate: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        if min(self.translate, self.rotate, self.scale, self.noise, self.drop) < 0 or (
            max(self.scale, self.drop) >= 1
        ):
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use numbers from 0, scale and drop below 1."
            )

    @property
    def moves(self) -> bool:
        """Whether images are moved, turned or resized."""
        return max(self.translate, self.rotate, self.scale) > 0

    def check(self, stacks: tuple[Stack, ...]) -> None:
        """Make sure that these networks can be changed so.

        Raises:
            MetaTrainError: if images are to be moved and the networks are none.
        """
        if self.moves and not all(isinstance(stack.model, ImageNetwork) for stack in stacks):
            raise MetaTrainError(
                "cannot translate, rotate or scale networks that are no images.\n"
                "  Leave these options at 0, or use a zoo of INRs."
            )

    def __call__(self, networks: Networks, generator: torch.Generator) -> Networks:
        """Return changed copies.

        Args:
            networks: to change; they stay as they are.
            generator: draws the changes, on the networks' device.
        """
        if self == Augmentation():
            return networks
        stacks = (self._changed(stack, generator) for stack in networks)
        return replace(networks, stacks=tuple(stacks))

    def _changed(self, stack: Stack, generator: torch.Generator) -> Stack:
        parameters = dict(stack.parameters)
        if self.moves:
            weight, bias = (parameters[name] for name in FIRST)
            parameters |= zip(FIRST, self._moved(weight, bias, generator), strict=True)
        if self.noise:
            parameters = {n: t + self._noise(t, generator) for n, t in parameters.items()}
        if self.drop:
            parameters = {n: t * self._kept(t, generator) for n, t in parameters.items()}
        return replace(stack, parameters=parameters)

    def _moved(
        self, weight: Tensor, bias: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Weights (n, out, 2) and biases (n, out) of images that are moved.

        The image f becomes f(R s (x - t)): the turn and the size go into the weights, and the move
        goes through them into the biases.
        """
        draws = torch.rand(4, len(weight), generator=generator, device=weight.device).to(weight)
        angle, size, *shift = 2 * draws - 1
        angle, size = angle * math.radians(self.rotate), 1 + size * self.scale
        cos, sin = size * angle.cos(), size * angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        turned = weight @ turn
        moved = turned @ (torch.stack(shift, 1) * self.translate).unsqueeze(-1)
        return turned, bias - moved.squeeze(-1)

    def _noise(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        std = tensor.flatten(1).std(1, correction=0).view(-1, *[1] * (tensor.dim() - 1))
        drawn = torch.randn(tensor.shape, generator=generator, device=tensor.device)
        return self.noise * std * drawn.to(tensor)

    def _kept(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(tensor.shape, generator=generator, device=tensor.device)
        return (drawn >= self.drop).to(tensor)
