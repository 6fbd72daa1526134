"""A small GPT that learns to add two numbers of two digits, by the recipe of minGPT's adder."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.char_gpt import GPT
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload

LAYERS, HEADS, WIDTH, BATCH, STEPS = 3, 3, 48, 64, 3000
DIGITS = 7
"""Two of each number, three of the sum, which come last and in reverse."""
ANSWER = 3
"""Digits of the sum, the only ones that count in the loss."""
HELD_OUT = 500
"""Pairs, out of ten thousand."""


def problems() -> tuple[Tensor, Tensor]:
    """Digits (n, 7) of the pairs to train on, and of those held out; always the same split.

    >>> train, held_out = problems()
    >>> len(train), len(held_out)
    (9500, 500)
    """
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(100 * 100, generator=generator)
    digits = written(pairs // 100, pairs % 100)
    return digits[HELD_OUT:], digits[:HELD_OUT]


def written(a: Tensor, b: Tensor) -> Tensor:
    """The digits (n, 7) of numbers (n,) and of their sum, which is easier to find in reverse.

    >>> written(torch.tensor([85]), torch.tensor([50]))
    tensor([[8, 5, 5, 0, 5, 3, 1]])
    """
    total = a + b
    columns = [a // 10, a % 10, b // 10, b % 10, total % 10, total // 10 % 10, total // 100]
    return torch.stack(columns, 1)


class Addition(Training):
    """Training of the GPT.

    Args:
        seed: of weights and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.train, self.held_out = problems()
        self.model = GPT(10, DIGITS - 1, LAYERS, HEADS, WIDTH)
        recipe = Recipe(torch.optim.AdamW, lr=5e-4, options={"betas": (0.9, 0.95)}, decayed=0.1)
        super().__init__([(self.model, recipe)], clip=1.0)
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self) -> Tensor:
        """Cross-entropy of the digits of the sum, in nats."""
        chosen = torch.randint(len(self.train), (BATCH,), generator=self.generator)
        return self._cross_entropy(self.train[chosen])

    def metric(self) -> float:
        """The same on all pairs that are held out."""
        with evaluating(self.model):
            return self._cross_entropy(self.held_out).item()

    def _cross_entropy(self, digits: Tensor) -> Tensor:
        logits = self.model(digits[:, :-1])[:, -ANSWER:]
        return F.cross_entropy(logits.flatten(0, 1), digits[:, -ANSWER:].flatten())


WORKLOAD = Workload(
    name="addition",
    title="GPT that adds numbers",
    build=Addition,
    steps=STEPS,
    every=150,
    metric="validation loss",
    source="after minGPT's adder: A. Karpathy, https://github.com/karpathy/minGPT; without dropout",
)
