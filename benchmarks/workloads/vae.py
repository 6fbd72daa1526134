"""The variational autoencoder of PyTorch's examples, on MNIST."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.pictures import unit_range
from benchmarks.workloads.workload import Recipe, Training, Workload

EPOCHS, BATCH, HIDDEN, LATENT, TESTED = 10, 128, 400, 20, 2000
STEPS = EPOCHS * (55_000 // BATCH)


class VAE(nn.Module):
    """784-400-20-400-784, with a Gaussian in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, HIDDEN)
        self.mean = nn.Linear(HIDDEN, LATENT)
        self.log_variance = nn.Linear(HIDDEN, LATENT)
        self.back = nn.Linear(LATENT, HIDDEN)
        self.pixels = nn.Linear(HIDDEN, 784)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From images (n, 784) and standard noise (n, 20) to pixels, mean and log-variance.

        The pixels are logits.
        """
        hidden = self.hidden(x).relu()
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        code = mean + (0.5 * log_variance).exp() * noise
        return self.pixels(self.back(code).relu()), mean, log_variance


class Autoencoding(Training):
    """Training of the autoencoder from a seed."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = VAE()
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=1e-3))])
        data = unit_range("mnist", 28)
        self.generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(data.splits["train"][:1], BATCH, self.generator)
        self.test = data.splits["test"][0][:TESTED]

    def negative_elbo(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Nats per image; shades of grey count as probabilities of ink, as in the example."""
        images = images.flatten(1)
        noise = torch.randn(len(images), LATENT, generator=generator)
        logits, mean, log_variance = self.model(images, noise)
        ink = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (ink + divergence) / len(images)

    def loss(self) -> Tensor:
        """Negative ELBO of the next batch, per image."""
        return self.negative_elbo(*next(self.batches), self.generator)

    def metric(self) -> float:
        """The same on test images."""
        with evaluating(self.model):
            generator = torch.Generator().manual_seed(0)
            return self.negative_elbo(self.test, generator).item()


WORKLOAD = Workload(
    name="vae",
    title="VAE, MNIST",
    build=Autoencoding,
    steps=STEPS,
    every=STEPS // 22,
    metric="negative test ELBO",
    source="after https://github.com/pytorch/examples/tree/main/vae; 55,000 images an epoch",
)
