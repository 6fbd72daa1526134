"""Denoising diffusion that predicts noise: a U-Net on clothes, a perceptron on two moons."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.pictures import unit_range
from benchmarks.workloads.points import two_moons
from benchmarks.workloads.workload import Recipe, Training, Workload

BATCH, SIZE, CHANNELS, STEPS = 128, 16, 16, 600
SMALL_BATCH, SMALL_STEPS = 256, 4000


def sinusoids(values: Tensor, size: int) -> Tensor:
    """Sines and cosines (n, size) of numbers (n,), with wavelengths from 6 to 63,000."""
    rates = torch.exp(-math.log(1e4) * torch.arange(size // 2) / (size // 2 - 1))
    angles = values[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """Two convolutions after group norms, told the time, beside an identity or a convolution."""

    def __init__(self, inputs: int, outputs: int, times: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(times, outputs)
        self.norm_2 = nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """From (n, inputs, height, width) and times (n, times) to (n, outputs, height, width)."""
        hidden = self.first(F.silu(self.norm_1(x))) + self.time(time)[:, :, None, None]
        return self.second(F.silu(self.norm_2(hidden))) + self.shortcut(x)


class UNet(nn.Module):
    """Two resolutions, with a zero-initialised last convolution.

    Args:
        width: number of channels at full resolution; twice as many at half.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, times = width, 4 * width
        self.time = nn.Sequential(nn.Linear(width, times), nn.SiLU(), nn.Linear(times, times))
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.fine = Block(width, width, times)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.coarse = Block(width, 2 * width, times)
        self.middle = Block(2 * width, 2 * width, times)
        self.up = nn.Conv2d(2 * width, width, 3, padding=1)
        self.back = Block(2 * width, width, times)
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """From noisy images (n, 1, size, size) and times (n,) to their noise."""
        time = F.silu(self.time(sinusoids(time, self.width)))
        fine = self.fine(self.enter(x), time)
        coarse = self.middle(self.coarse(self.down(fine), time), time)
        up = self.up(F.interpolate(coarse, scale_factor=2.0))
        return self.leave(F.silu(self.norm(self.back(torch.cat([up, fine], 1), time))))


class Residual(nn.Module):
    """A linear layer and GELU beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, width) to the same."""
        return x + F.gelu(self.layer(x))


class Perceptron(nn.Module):
    """Three residual layers that see both coordinates and the time.

    Args:
        width: of the layers.
        plain: whether they see them as numbers; as sinusoids otherwise.
    """

    def __init__(self, width: int, plain: bool = False) -> None:
        super().__init__()
        self.width, self.plain = width, plain
        self.layers = nn.Sequential(
            nn.Linear(3 if plain else 3 * width, width),
            nn.GELU(),
            *(Residual(width) for _ in range(3)),
            nn.Linear(width, 2),
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """From noisy points (n, 2) and times (n,) to their noise."""
        if self.plain:
            return self.layers(torch.cat([x, time[:, None]], 1))
        seen = [sinusoids(values, self.width) for values in (25 * x[:, 0], 25 * x[:, 1], time)]
        return self.layers(torch.cat(seen, 1))


class Denoising(Training):
    """Training of a model to predict the noise in its input.

    Args:
        model: from noisy samples and times to noise.
        recipe: of the model.
        batches: of samples (n, ...), in tuples of one.
        held_out: samples to measure on.
        generator: of times and noise.
        times: how many steps there are from a sample to noise; betas rise linearly from 0.0001
            to 0.02.
        clip: largest norm of gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        batches: Iterator[tuple[Tensor, ...]],
        held_out: Tensor,
        generator: torch.Generator,
        *,
        times: int,
        clip: float | None = None,
    ) -> None:
        super().__init__([(model, recipe)], clip)
        self.model, self.batches, self.held_out = model, batches, held_out
        self.generator = generator
        self.kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, times), 0)

    def error(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the noise, at times drawn evenly."""
        time = torch.randint(len(self.kept), (len(samples),), generator=generator)
        noise = torch.randn(samples.shape, generator=generator)
        kept = self.kept[time].view(-1, *[1] * (samples.dim() - 1))
        noisy = kept.sqrt() * samples + (1 - kept).sqrt() * noise
        return F.mse_loss(self.model(noisy, time.float()), noise)

    def loss(self) -> Tensor:
        """Mean squared error on the next batch."""
        (samples,) = next(self.batches)
        return self.error(samples, self.generator)

    def metric(self) -> float:
        """The same on held-out samples, with the same times and noise whenever it is called."""
        with evaluating(self.model):
            return self.error(self.held_out, torch.Generator().manual_seed(0)).item()


def clothes(seed: int) -> Denoising:
    """A run of the U-Net on FashionMNIST."""
    torch.manual_seed(seed)
    data = unit_range("fashion_mnist", SIZE)
    # From -1 to 1, as pictures are given to diffusion models.
    train, held_out = (2 * data.splits[split][0] - 1 for split in ("train", "held_out"))
    generator = torch.Generator().manual_seed(seed)
    return Denoising(
        UNet(CHANNELS),
        Recipe(torch.optim.Adam, lr=1e-3),
        epochs((train,), BATCH, generator),
        held_out[:512],
        generator,
        times=300,
    )


def moons(seed: int, *, plain: bool = False, times: int = 50) -> Denoising:
    """A run of the perceptron on two moons.

    Args:
        seed: of weights, batches, times and noise.
        plain: whether the perceptron sees coordinates and time as numbers.
        times: how many there are.
    """
    torch.manual_seed(seed)
    train = two_moons(8000, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    return Denoising(
        Perceptron(128, plain),
        Recipe(torch.optim.AdamW, lr=1e-3, decayed=0.01),
        epochs((train,), SMALL_BATCH, generator),
        two_moons(8000, torch.Generator().manual_seed(2)),
        generator,
        times=times,
        clip=1.0,
    )


WORKLOADS = (
    Workload(
        name="diffusion",
        title="diffusion U-Net, FashionMNIST",
        build=clothes,
        steps=STEPS,
        every=STEPS // 20,
        metric="held-out noise MSE",
        source="after N. Rogge and K. Rasul, The annotated diffusion model (2022), "
        "https://huggingface.co/blog/annotated-diffusion; a smaller U-Net, squared errors",
    ),
    Workload(
        name="diffusion_small",
        title="diffusion perceptron, two moons",
        build=moons,
        steps=SMALL_STEPS,
        every=SMALL_STEPS // 20,
        metric="held-out noise MSE",
        source="after https://github.com/tanelp/tiny-diffusion; two moons",
    ),
    # Many a first attempt gives the network the number of the step, up to 999, as it is: its first
    # gradients are large, and so is what a step of usual size does to the loss.
    Workload(
        name="diffusion_plain_time",
        title="diffusion perceptron told times up to 999, two moons",
        build=partial(moons, plain=True, times=1000),
        steps=SMALL_STEPS,
        every=SMALL_STEPS // 20,
        metric="held-out noise MSE",
        source="after https://github.com/tanelp/tiny-diffusion; no sinusoids, 1000 times",
    ),
)
