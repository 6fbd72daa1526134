"""A picture in hash tables at many resolutions, as in Instant-NGP."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.pictures import grid, photograph, psnr
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.tasks.model_parts import perceptron

LEVELS, ENTRIES, FEATURES, COARSEST, FINEST = 8, 2**12, 2, 8, 160
HEIGHT, WIDTH, BATCH, STEPS = 213, 320, 4096, 2000
PRIME = 2_654_435_761
"""Multiplies the second coordinate in the hash of Instant-NGP."""


class HashGrid(nn.Module):
    """Features of the four corners around a place at each resolution, and a perceptron on top.

    Args:
        levels: number of resolutions, in geometric progression.
        entries: of the table of each; a power of two.
        features: of each entry.
        width: of both hidden layers of the perceptron.
    """

    def __init__(self, levels: int, entries: int, features: int, width: int = 64) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(entries, features) for _ in range(levels))
        for table in self.tables:
            nn.init.uniform_(table.weight, -1e-4, 1e-4)
        growth = (FINEST / COARSEST) ** (1 / (levels - 1))
        self.cells = [round(COARSEST * growth**level) for level in range(levels)]
        self.perceptron = nn.Sequential(*perceptron([levels * features, width, width, 3], "relu"))

    def forward(self, places: Tensor) -> Tensor:
        """From places (n, 2) in [0, 1] to colours (n, 3)."""
        levels = zip(self.tables, self.cells, strict=True)
        return self.perceptron(torch.cat([look_up(*level, places) for level in levels], 1))


def look_up(table: nn.Embedding, cells: int, places: Tensor) -> Tensor:
    """Bilinear interpolation (n, features) between the entries of the corners of cells.

    Args:
        table: of all corners, by their number or, where they are too many, by their hash.
        cells: along each side.
        places: (n, 2), from 0 to 1.
    """
    low = (places * cells).long().clamp(max=cells - 1)
    right, down = (places * cells - low).unbind(1)
    entries, result = table.num_embeddings, torch.zeros(())
    for i in (0, 1):
        for j in (0, 1):
            row, column = low[:, 0] + i, low[:, 1] + j
            if (cells + 1) ** 2 <= entries:
                index = row * (cells + 1) + column
            else:
                index = (row ^ (column * PRIME)) % entries
            weight = (right if i else 1 - right) * (down if j else 1 - down)
            result = result + weight[:, None] * table(index)
    return result


class Picture(Training):
    """Training on random pixels; the seed decides weights and pixels."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = HashGrid(LEVELS, ENTRIES, FEATURES)
        recipe = Recipe(torch.optim.Adam, lr=1e-2, options={"betas": (0.9, 0.99), "eps": 1e-15})
        super().__init__([(self.model, recipe)])
        self.places = (grid(HEIGHT, WIDTH) + 1) / 2
        self.pixels = photograph(HEIGHT, WIDTH).flatten(1).T.contiguous()
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self) -> Tensor:
        """Mean squared error of the next pixels."""
        index = torch.randint(len(self.pixels), (BATCH,), generator=self.generator)
        return F.mse_loss(self.model(self.places[index]), self.pixels[index])

    def metric(self) -> float:
        """PSNR of the whole picture in dB."""
        with evaluating(self.model):
            return psnr(self.model(self.places), self.pixels)


WORKLOAD = Workload(
    name="hash_grid",
    title="hash grid of Instant-NGP, photograph",
    build=Picture,
    steps=STEPS,
    every=100,
    metric="PSNR of the picture, dB",
    higher=True,
    source="after T. Müller et al., Instant neural graphics primitives with a multiresolution hash "
    "encoding (2022), https://github.com/NVlabs/instant-ngp; 8 levels, tables of 4096",
)
