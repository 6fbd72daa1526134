"""A small GPT on names, one character at a time, by the recipe of makemore."""

from functools import cache
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.char_gpt import GPT
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload

LAYERS, HEADS, WIDTH, BATCH, STEPS = 4, 4, 64, 32, 5000
COUNT = 32_000
"""The most frequent names, about as many as in makemore's list."""
HELD_OUT = 1000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
END = 0
"""What a name begins and ends with; letters count from 1."""
IGNORED = -100
"""Places after a name has ended, as `cross_entropy` knows them."""


@cache
def family_names() -> tuple[str, ...]:
    """The most frequent family names in the United States' census of 1990, from package `names`.

    Raises:
        ImportError: if the package is missing.
    """
    try:
        listed = files("names") / "dist.all.last"
    except ModuleNotFoundError as error:
        raise ImportError(
            "the names are in the package `names`, which is not installed.\n"
            '  Install it with `pip install "ngopt[workloads]"`.'
        ) from error
    lines = listed.read_text("utf-8").splitlines()[:COUNT]
    return tuple(line.split()[0].lower() for line in lines)


def encoded(names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """What comes in and what is to come out at each place, (n, longest + 1) int64 both.

    >>> encoded(("ab", "c"))
    (tensor([[0, 1, 2],
            [0, 3, 0]]), tensor([[   1,    2,    0],
            [   3,    0, -100]]))
    """
    x = torch.full((len(names), max(map(len, names)) + 1), END)
    y = torch.full_like(x, IGNORED)
    for row, name in enumerate(names):
        codes = torch.tensor([LETTERS.index(letter) + 1 for letter in name])
        x[row, 1 : len(codes) + 1] = codes
        y[row, : len(codes)] = codes
        y[row, len(codes)] = END
    return x, y


@cache
def splits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Names to train on and names to test on, always the same, each as from :func:`encoded`."""
    x, y = encoded(family_names())
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[HELD_OUT:], order[:HELD_OUT]
    return (x[train], y[train]), (x[test], y[test])


class Names(Training):
    """Training of the GPT.

    Args:
        seed: of weights and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.train, self.test = splits()
        length = self.train[0].shape[1]
        self.model = GPT(len(LETTERS) + 1, length, LAYERS, HEADS, WIDTH)
        recipe = Recipe(torch.optim.AdamW, lr=5e-4, options={"betas": (0.9, 0.99)}, decayed=0.01)
        super().__init__([(self.model, recipe)])
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self) -> Tensor:
        """Cross-entropy of the letters and the end of each name, in nats."""
        x, y = self.train
        chosen = torch.randint(len(x), (BATCH,), generator=self.generator)
        return self._cross_entropy(x[chosen], y[chosen])

    def metric(self) -> float:
        """The same on all names to test on."""
        with evaluating(self.model):
            return self._cross_entropy(*self.test).item()

    def _cross_entropy(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.model(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED)


WORKLOAD = Workload(
    name="names",
    title="GPT on names",
    build=Names,
    steps=STEPS,
    every=250,
    metric="test loss",
    source="after makemore: A. Karpathy, https://github.com/karpathy/makemore; family names",
)
