"""Train a small convnet with Adam and with NeuralGraphOptimizer, side by side.

    python examples/00_quickstart.py                    # FashionMNIST if $NGOPT_DATA has it, else digits
    python examples/00_quickstart.py --sweep            # Adam at six learning rates

Prints a table and saves both training curves as a picture.
"""

import argparse
import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from ngopt import NeuralGraphOptimizer

Split = tuple[Tensor, Tensor]


def load_data() -> tuple[str, Split, Split]:
    """Name of the data set, training and test split: images (n, 1, h, w), labels (n,)."""
    folder = Path(os.environ.get("NGOPT_DATA", "~/.cache/ngopt")).expanduser() / "FashionMNIST/raw"
    if not folder.exists():
        digits = load_digits()
        images, labels = torch.tensor(digits.images / 16).float(), torch.tensor(digits.target)
        mix = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        images, labels = images[mix][:, None], labels[mix]
        return "digits", (images[:1437], labels[:1437]), (images[1437:], labels[1437:])

    def read(name: str, offset: int) -> Tensor:
        data = gzip.decompress((folder / f"{name}.gz").read_bytes())
        return torch.tensor(np.frombuffer(data, np.uint8, offset=offset))

    def split(name: str) -> Split:
        images = read(f"{name}-images-idx3-ubyte", 16).view(-1, 1, 28, 28) / 255
        return images, read(f"{name}-labels-idx1-ubyte", 8).long()

    return "FashionMNIST", split("train"), split("t10k")


def make_model() -> nn.Module:
    """The convnet of the learned-optimizer experiment in the neural-graphs paper."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def train(name: str, model: nn.Module, optimizer, data: Split, steps: int) -> list[float]:
    """Train on batches of 128; the batches are the same for every optimizer."""
    generator, losses = torch.Generator().manual_seed(0), []
    bar = trange(steps, desc=name)
    for _ in bar:
        batch = torch.randint(len(data[0]), (128,), generator=generator)
        loss = nn.functional.cross_entropy(model(data[0][batch]), data[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
    return losses


def main() -> None:
    """Run, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--sweep", action="store_true", help="Adam at lr 1e-4 to 3e-2")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the picture")
    options = parser.parse_args()
    name, training, test = load_data()
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2) if options.sweep else (1e-3,)
    runs = {f"Adam, lr {lr:g}": (lambda m, lr=lr: torch.optim.Adam(m.parameters(), lr)) for lr in rates}
    runs["NeuralGraphOptimizer"] = NeuralGraphOptimizer

    axes = Figure(figsize=(7, 4)).subplots()
    table = f"\n{name:24}| training loss | test loss | test accuracy | seconds\n"
    for label, make_optimizer in runs.items():
        model, start = make_model(), time.perf_counter()
        losses = train(label, model, make_optimizer(model), training, options.steps)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            logits = model(test[0])
        loss = nn.functional.cross_entropy(logits, test[1])
        right = (logits.argmax(1) == test[1]).float().mean()
        table += f"{label:24}| {np.mean(losses[-100:]):13.3f} | {loss:9.3f} | {right:13.1%} | {seconds:7.1f}\n"
        axes.plot(np.convolve(losses, np.ones(20) / 20, "valid"), label=label)
    print(table)
    axes.set(xlabel="step", ylabel="training loss (mean of 20)", yscale="log", title=name)
    axes.legend()
    options.out.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(options.out / "quickstart.png", dpi=150)


if __name__ == "__main__":
    main()
