"""A SIREN that learns a photograph by heart."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.pictures import grid, photograph, psnr
from benchmarks.workloads.workload import Recipe, Training, Workload

WIDTH, LAYERS, FREQUENCY, SIZE, STEPS = 256, 3, 30.0, 64, 500


class Siren(nn.Module):
    """Linear layers and sines of 30 times their outputs, with the initial weights of the paper.

    Args:
        width: of hidden layers.
        layers: how many follow the first.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            [nn.Linear(2, width), *(nn.Linear(width, width) for _ in range(layers))]
        )
        self.last = nn.Linear(width, 1)
        for i, layer in enumerate([*self.hidden, self.last]):
            inputs = layer.in_features
            bound = math.sqrt(6 / inputs) / FREQUENCY if i else 1 / inputs
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, places: Tensor) -> Tensor:
        """From places (n, 2) in [-1, 1] to brightness (n,)."""
        for layer in self.hidden:
            places = torch.sin(FREQUENCY * layer(places))
        return self.last(places).squeeze(1)


class Picture(Training):
    """Training on all pixels at once; the seed decides the initial weights."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Siren(WIDTH, LAYERS)
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=1e-4))])
        self.places = grid(SIZE, SIZE)
        self.pixels = photograph(SIZE, SIZE).mean(0).flatten()

    def loss(self) -> Tensor:
        """Mean squared error of pixels from -1 to 1."""
        return F.mse_loss(self.model(self.places), 2 * self.pixels - 1)

    def metric(self) -> float:
        """PSNR of the whole picture in dB."""
        with evaluating(self.model):
            return psnr((self.model(self.places) + 1) / 2, self.pixels)


WORKLOAD = Workload(
    name="siren",
    title="SIREN, photograph",
    build=Picture,
    steps=STEPS,
    every=25,
    metric="PSNR of the picture, dB",
    higher=True,
    source="after V. Sitzmann et al., Implicit neural representations with periodic activation "
    "functions (2020), https://github.com/vsitzmann/siren; another photograph, of 64 x 64",
)
