"""How far half precision changes the orthogonalized momenta of real training; about a minute.

    python -m benchmarks.half_precision

A perceptron on FashionMNIST and a transformer on Tiny Shakespeare are trained for 120 steps. What
is orthogonalized at some of them is orthogonalized again with products in float16 and in bfloat16,
on the CPU, and compared with float64: root mean square of the difference, relative, of directions
with rows of equal size; the least cosine; and largest singular values.
"""

from collections.abc import Iterator
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from benchmarks.models import Transformer, perceptron
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.data.text import text
from meta_train.table import table_lines
from ngopt import NeuralGraphOptimizer
from ngopt.backends.dispatch import eager
from ngopt.features.scale import EPS, row_squares
from ngopt.rules import base_update
from ngopt.rules.layers.polar import in_half_precision, rough_polar_factor

STEPS = (0, 3, 30, 120)
"""Steps whose momenta are looked at."""


def momenta(model: nn.Module, dataset: Dataset) -> Iterator[Tensor]:
    """What is orthogonalized at :data:`STEPS`, `(matrices, rows, columns)`."""
    generator, seen = torch.Generator().manual_seed(0), []

    def spy(matrices: Tensor, steps: int) -> Tensor:
        seen.append(matrices.clone())
        return rough_polar_factor(matrices, steps)

    optimizer = NeuralGraphOptimizer(model)
    with eager(), patch.object(base_update, "rough_polar_factor", spy):
        for step in range(max(STEPS) + 1):
            inputs, labels = (t[0] for t in dataset.sample(1, 16, generator, "train"))
            optimizer.zero_grad()
            outputs = model(inputs if inputs.dim() == 2 else inputs.flatten(1))
            cross_entropy(outputs, labels.flatten()).backward()
            seen.clear()
            optimizer.step()
            if step in STEPS:
                yield from list(seen)


def compared(found: Tensor, exact: Tensor) -> list[float]:
    """Difference, cosine, and the largest singular value over the exact one; worst of some."""
    ours, theirs = (x * torch.rsqrt(row_squares(x) + EPS**2) for x in (found.double(), exact))
    distance = (ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)
    cosine = cosine_similarity(ours.flatten(1), theirs.flatten(1))
    largest = [torch.linalg.svdvals(x)[:, 0] for x in (found.double(), exact)]
    return [float(distance.max()), float(cosine.min()), float((largest[0] / largest[1]).max())]


def main() -> None:
    """Measure and print the table."""
    torch.manual_seed(0)
    words = text("tinyshakespeare", 64)
    cases = {
        "perceptron": (perceptron(), images("fashion_mnist", 28)),
        "transformer": (Transformer(words.classes, 64, 2), words),
    }
    rows = []
    for name, (model, dataset) in cases.items():
        given = list(momenta(model, dataset))
        for dtype in (torch.float16, torch.bfloat16):
            numbers = [
                compared(in_half_precision(m, dtype=dtype), rough_polar_factor(m.double()))
                for m in given
            ]
            far, cosine, largest = zip(*numbers, strict=True)
            mean = sum(far) / len(far)
            rows.append(
                [
                    f"{name}, {str(dtype).removeprefix('torch.')}",
                    f"{mean:.2%}",
                    f"{max(far):.2%}",
                    f"{min(cosine):.5f}",
                    f"{max(largest):.3f}",
                ]
            )
    head = ["momenta, products", "difference, mean", "largest", "least cosine", "singular values"]
    print("\n".join(table_lines(head, rows)))


if __name__ == "__main__":
    main()
