"""Sine networks that are images, stacked: drawing, fitting, rendering."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.siren import SineNetwork
from meta_train.zoo.architecture import Architecture, model
from ngopt.encoders.networks import Networks, Stack

SCALES = {"nfn": (0.5, 0.5), "dws": (1.0, 0.5)}
"""An image in [0, 1] is `gain * output + offset`, by the publication the zoo follows."""

CHUNK = 64
"""Number of networks that are rendered at once."""


@model("siren")
class ImageNetwork(SineNetwork):
    """Sine network of an image: from a point (row, column) in [-1, 1]² to values.

    The image in [0, 1] is `gain * values + offset`.

    Args:
        channels: of the image.
        width: of the hidden layers.
        depth: number of hidden layers.
        frequency: of the sines.
        gain: see above.
        offset: see above.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        depth: int = 2,
        frequency: float = 30.0,
        gain: float = 0.5,
        offset: float = 0.5,
    ) -> None:
        super().__init__(channels, width, depth, frequency)
        self.gain, self.offset = gain, offset

    def inputs(self) -> tuple[Tensor, ...]:
        """Points of a small image."""
        return (points(4),)


def points(size: int, device: torch.device | None = None) -> Tensor:
    """Points (size * size, 2) of the pixels, row by row: (row, column), both from -1 to 1."""
    steps = torch.linspace(-1, 1, size, device=device)
    return torch.cartesian_prod(steps, steps)


def evaluate(parameters: Mapping[str, Tensor], at: Tensor, frequency: float) -> Tensor:
    """Run stacked sine networks on the same points.

    Args:
        parameters: of a :class:`SineNetwork`, `(networks, *shape)` each.
        at: points, `(points, 2)`.
        frequency: of the sines.

    Returns:
        Values, `(networks, outputs, points)`.
    """
    depth = len(parameters) // 2
    values = at.T.expand(len(parameters["layers.0.weight"]), -1, -1)
    for number in range(depth):
        weight, bias = (parameters[f"layers.{number}.{kind}"] for kind in ("weight", "bias"))
        values = torch.baddbmm(bias.unsqueeze(-1), weight, values)
        if number < depth - 1:
            values = torch.sin(frequency * values)
    return values


def render(networks: Networks | Stack, size: int = 28) -> Tensor:
    """Images of sine networks; differentiable, and not clipped to [0, 1].

    Args:
        networks: of a zoo of INRs, with their model.
        size: of the images, in pixels; that of the fitted images by default for MNIST.

    Returns:
        Black is 0, white 1: `(networks, channels, size, size)`.

    Raises:
        MetaTrainError: if a network is no sine network of an image.
    """
    if isinstance(networks, Stack):
        return _render(networks, size)
    return networks.in_order([_render(stack, size) for stack in networks])


def _render(stack: Stack, size: int) -> Tensor:
    own = stack.model
    if not isinstance(own, ImageNetwork):
        raise MetaTrainError(
            f"cannot render networks of {type(own).__name__}: they are no images.\n"
            "  Give networks of a zoo of INRs: `python -m meta_train zoo inr`."
        )
    at = points(size, next(iter(stack.parameters.values())).device)
    at = at.to(stack.parameters["layers.0.weight"].dtype)
    parts = [
        evaluate(stack.select(slice(start, start + CHUNK)).parameters, at, own.frequency)
        for start in range(0, max(1, len(stack)), CHUNK)
    ]
    values = torch.cat(parts)
    return own.gain * values.view(*values.shape[:2], size, size) + own.offset


def draw(
    config: Mapping[str, Any], init: str, networks: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw fresh weights of an :class:`ImageNetwork`, `(networks, *shape)` each.

    Args:
        config: of the network.
        init: `nfn`: weights of the first layer uniform to 1 / inputs, of the others to
            sqrt(6 / inputs) / frequency, biases as torch has them. `dws`: sqrt(6 / inputs) /
            frequency in all hidden layers, whose biases are 0, and torch's default in the last.
        networks: how many.
        generator: draws them.

    Source: Zhou et al., "Permutation Equivariant Neural Functionals", NeurIPS 2023; Navon et al.,
    "Equivariant Architectures for Learning in Deep Weight Spaces", ICML 2023.
    """
    own = cast(ImageNetwork, Architecture("siren", config).build())
    drawn = {}
    for name, parameter in own.named_parameters():
        _, layer, kind = name.split(".")
        number, last = int(layer), int(layer) == len(own.layers) - 1
        inputs = cast(torch.nn.Linear, own.layers[number]).in_features
        narrow, usual = math.sqrt(6 / inputs) / own.frequency, 1 / math.sqrt(inputs)
        if init == "nfn":
            of_weights = narrow if number else 1 / inputs
            bound = usual if kind == "bias" else of_weights
        else:
            hidden = 0.0 if kind == "bias" else narrow
            bound = usual if last else hidden
        uniform = torch.rand(networks, *parameter.shape, generator=generator)
        drawn[name] = (2 * uniform - 1) * bound
    return drawn


def fit(
    parameters: Mapping[str, Tensor],
    targets: Tensor,
    frequency: float,
    steps: int,
    lr: float,
    pixels: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Fit stacked sine networks to an image each, with Adam and a cosine to 0.

    Args:
        parameters: to start from, `(networks, *shape)` each.
        targets: values, `(networks, outputs, size * size)`.
        frequency: of the sines.
        steps: how many.
        lr: of the first step.
        pixels: per step, drawn anew each time and the same for all networks; 0 for all.
        generator: draws them, on the CPU.

    Returns:
        The fitted parameters.
    """
    device, count = targets.device, targets.shape[-1]
    at = points(math.isqrt(count), device)
    fitted = {name: tensor.clone().requires_grad_() for name, tensor in parameters.items()}
    optimizer = torch.optim.Adam(fitted.values(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen, wanted = at, targets
        if 0 < pixels < count:
            index = torch.randperm(count, generator=generator)[:pixels].to(device)
            chosen, wanted = at[index], targets[..., index]
        values = evaluate(fitted, chosen, frequency)
        # Summed over networks, so that each has the gradient it would have alone.
        loss = (values - wanted).square().mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {name: tensor.detach() for name, tensor in fitted.items()}
