"""Contrastive learning of pictures of clothes without labels, as SimCLR does it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating, outputs
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.data.images import images

BATCH, WIDTH, TEMPERATURE, STEPS = 256, 16, 0.5, 640
KNOWN, TESTED, NEIGHBOURS = 4000, 2000, 20


class Encoder(nn.Module):
    """Three convolutions with batch norm, and a head that only training looks at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *self.layer(1, width, 2),
            *self.layer(width, 2 * width, 2),
            *self.layer(2 * width, 4 * width, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 2 * width)
        )

    @staticmethod
    def layer(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
        """A convolution, batch norm and ReLU."""
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return convolution, nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """From images (n, 1, 28, 28) to features of unit length (n, 2 * width)."""
        return F.normalize(self.head(self.body(x)), dim=1)


def views(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Random parts of images at full size, some mirrored, of other brightness and contrast.

    Args:
        inputs: standardised, (n, channels, height, width).
        generator: of everything random.
    """
    count = len(inputs)
    # A part has between 20 and 100 % of the area.
    size = (0.2 + 0.8 * torch.rand(count, generator=generator)).sqrt()
    places = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - size)[:, None]
    mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    theta = torch.stack([size * mirrored, zero, places[:, 0], zero, size, places[:, 1]], 1)
    where = F.affine_grid(theta.view(-1, 2, 3), list(inputs.shape), align_corners=False)
    parts = F.grid_sample(inputs, where, padding_mode="border", align_corners=False)
    contrast, brightness = torch.rand(2, count, 1, 1, 1, generator=generator)
    return parts * (0.6 + 0.8 * contrast) + 0.8 * (brightness - 0.5)


def nt_xent(features: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the other view of the same image among all others, in nats.

    Args:
        features: of unit length, (2 n, d): one view of each image, then the other of each.
        temperature: divides the similarities.
    """
    count = len(features)
    similar = features @ features.T / temperature
    similar = similar.masked_fill(torch.eye(count, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(similar, torch.arange(count).roll(count // 2))


class Contrastive(Training):
    """Training of the encoder; the seed decides weights, batches and views."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Encoder(WIDTH)
        recipe = Recipe(torch.optim.Adam, lr=1e-3, decayed=1e-6)
        super().__init__([(self.model, recipe)])
        splits = images("fashion_mnist", 28).splits
        self.generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(splits["train"][:1], BATCH, self.generator)
        self.known = tuple(tensor[:KNOWN] for tensor in splits["train"])
        self.test = tuple(tensor[:TESTED] for tensor in splits["test"])

    def loss(self) -> Tensor:
        """NT-Xent of two views of each image of the next batch."""
        (inputs,) = next(self.batches)
        both = views(torch.cat([inputs, inputs]), self.generator)
        return nt_xent(self.model(both), TEMPERATURE)

    def metric(self) -> float:
        """Share of test images whose class most of the nearest labelled images have."""
        with evaluating(self.model):
            known, test = (
                F.normalize(outputs(self.model.body, inputs), dim=1)
                for inputs in (self.known[0], self.test[0])
            )
        nearest = (test @ known.T).topk(NEIGHBOURS, dim=1).indices
        votes = F.one_hot(self.known[1][nearest], 10).sum(1)
        return (votes.argmax(1) == self.test[1]).double().mean().item()


WORKLOAD = Workload(
    name="contrastive",
    title="SimCLR, FashionMNIST",
    build=Contrastive,
    steps=STEPS,
    every=STEPS // 16,
    metric="test accuracy of 20 nearest neighbours",
    higher=True,
    source="after https://github.com/leftthomas/SimCLR: Adam, 1e-3, weight decay 1e-6; a small "
    "convnet, batch 256, 20 neighbours",
)
