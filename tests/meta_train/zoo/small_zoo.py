"""A zoo of tiny perceptrons of two architectures, made in no time."""

import torch
from torch import nn

from meta_train.seeds import part_seed
from meta_train.zoo.architecture import Architecture, model
from meta_train.zoo.making import make_zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter

CATEGORIES = {"kind": ("narrow", "wide")}
WIDTHS = (3, 5)


@model("test_perceptron")
class Perceptron(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.hidden, self.out = nn.Linear(2, width), nn.Linear(width, 1)
        self.norm = nn.BatchNorm1d(width)

    def inputs(self):
        return (torch.zeros(4, 2),)

    def forward(self, x):
        return self.out(torch.tanh(self.norm(self.hidden(x))))


def chunk_of(number, seed=0):
    """Two runs with two snapshots each; the width of the first is 3, of the second 5."""
    generator = torch.Generator().manual_seed(part_seed(seed, number))
    parts = []
    for kind, width in enumerate(WIDTHS):
        run = 2 * number + kind
        tensors = {
            name: torch.rand(2, *tensor.shape, generator=generator)
            for name, tensor in Perceptron(width).state_dict().items()
            if tensor.is_floating_point()
        }
        columns = {
            "run": torch.full((2,), run),
            "split": torch.full((2,), run % 3),
            "kind": torch.full((2,), kind),
            "first": tensors["hidden.bias"][:, 0],
        }
        examples = {"pictures": torch.randint(256, (2, 1, 2, 2), generator=generator).byte()}
        parts.append(
            Part(Architecture("test_perceptron", {"width": width}), tensors, columns, examples)
        )
    return Chunk(parts, dropped=number % 2)


def writer(folder, seed=0, chunks=3):
    return ZooWriter(folder, "test", {"seed": seed}, chunks)


def make(folder, seed=0, chunks=3, work=chunk_of, **options):
    return make_zoo(writer(folder, seed, chunks), work, CATEGORIES, **options)
