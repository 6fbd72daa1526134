"""Matrix factorisation of generated ratings of the size of MovieLens 100k."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload, cosine

USERS, ITEMS, RATINGS, FACTORS = 943, 1682, 100_000, 50
BATCH, EPOCHS = 256, 5
STEPS = EPOCHS * (RATINGS * 8 // 10 // BATCH)

Ratings = tuple[Tensor, Tensor, Tensor]
"""Users, items and ratings from 1 to 5, each (n,)."""


@cache
def ratings() -> dict[str, Ratings]:
    """Draw ratings from ten factors, biases and noise; some items are rated far more often.

    Returns:
        The splits `train` and `held_out`, the latter a fifth of them.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    chances = [1.0 / torch.arange(30, count + 30) for count in (USERS, ITEMS)]
    users, items = (
        torch.multinomial(chance, RATINGS, replacement=True, generator=generator)
        for chance in chances
    )
    tastes, traits = normal(USERS, 10), normal(ITEMS, 10)
    agreement = (tastes[users] * traits[items]).sum(1) / 10**0.5
    bias = 0.4 * normal(USERS)[users] + 0.5 * normal(ITEMS)[items]
    exact = 3.5 + bias + 0.6 * agreement + 0.7 * normal(RATINGS)
    stars = exact.round().clamp(1, 5)
    cut = RATINGS * 8 // 10
    parts = {"train": slice(cut), "held_out": slice(cut, None)}
    return {split: (users[part], items[part], stars[part]) for split, part in parts.items()}


class Factorization(nn.Module):
    """A product of factors plus biases, squashed to the range from 0 to 5.5."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, FACTORS), nn.Embedding(ITEMS, FACTORS)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.01)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """From users and items, both (n,) int64, to ratings (n,)."""
        product = (self.users(users) * self.items(items)).sum(1, keepdim=True)
        return 5.5 * torch.sigmoid(product + self.user_bias(users) + self.item_bias(items))[:, 0]


class Recommendation(Training):
    """Training of the factorization.

    Args:
        seed: of the factors and the order of ratings.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Factorization()
        schedule = cosine(STEPS, warmup=STEPS // 4)
        recipe = Recipe(torch.optim.AdamW, 5e-3, decayed=0.1, schedule=schedule)
        super().__init__([(self.model, recipe)])
        generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(ratings()["train"], BATCH, generator)

    def loss(self) -> Tensor:
        """Mean squared error of the next ratings."""
        users, items, stars = next(self.batches)
        return F.mse_loss(self.model(users, items), stars)

    def metric(self) -> float:
        """Root of the mean squared error on the held-out fifth."""
        users, items, stars = ratings()["held_out"]
        with evaluating(self.model):
            return F.mse_loss(self.model(users, items), stars).sqrt().item()


WORKLOAD = Workload(
    name="factorization",
    title="matrix factorisation, generated ratings",
    build=Recommendation,
    steps=STEPS,
    every=60,
    metric="held-out RMSE",
    source="after fastai's course, lesson 7, collaborative filtering: 50 factors, range (0, 5.5), "
    "five epochs at 5e-3, weight decay 0.1; one-cycle without its change of momentum, batch 256",
)
