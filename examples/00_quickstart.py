"""Train a small convnet with Adam and with NeuralGraphOptimizer: a table and a picture of both.

    python examples/00_quickstart.py            # FashionMNIST if $NGOPT_DATA has it, else digits
    python examples/00_quickstart.py --sweep    # Adam at six learning rates
All start from the same weights and see the same batches.
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
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import trange

from ngopt import NeuralGraphOptimizer


def read(path: Path, offset: int) -> Tensor:
    """Bytes of a gzipped file of the MNIST family, without its header."""
    return torch.tensor(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset))


def load_data() -> tuple[str, list[tuple[Tensor, Tensor]]]:
    """Name of the data set, training and test split: images (n, 1, h, w), labels (n,)."""
    folder = Path(os.environ.get("NGOPT_DATA", "~/.cache/ngopt")).expanduser() / "FashionMNIST/raw"
    if folder.exists():
        images = [read(folder / f"{n}-images-idx3-ubyte.gz", 16) for n in ("train", "t10k")]
        labels = [read(folder / f"{n}-labels-idx1-ubyte.gz", 8).long() for n in ("train", "t10k")]
        images = [pixels.view(-1, 1, 28, 28) / 255 for pixels in images]
        return "FashionMNIST", list(zip(images, labels, strict=True))
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16).float()[:, None], torch.tensor(digits.target)
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return "digits", [(images[part], labels[part]) for part in mixed.split(1500)]


def make_model() -> nn.Module:
    """The convnet of the learned-optimizer experiment in the neural-graphs paper."""
    torch.manual_seed(0)
    body: list[nn.Module] = []
    for into, out, stride in ((1, 16, 2), (16, 32, 1), (32, 32, 1)):
        body += [nn.Conv2d(into, out, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def train(name, model, optimizer, images, labels, steps) -> list[float]:
    """Train on batches of 128 and return the losses."""
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in (bar := trange(steps, desc=name)):
        batch = torch.randint(len(labels), (128,), generator=generator)
        loss = cross_entropy(model(images[batch]), labels[batch])
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
    name, (training, test) = load_data()
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2) if options.sweep else (1e-3,)
    runs = {f"Adam, lr {lr:g}": lambda m, lr=lr: Adam(m.parameters(), lr) for lr in rates}
    runs["NeuralGraphOptimizer"] = NeuralGraphOptimizer
    axes = Figure(figsize=(7, 4)).subplots()
    table = f"\n{name:24}| training loss | test loss | test accuracy | seconds\n"
    for label, make_optimizer in runs.items():
        model, start = make_model(), time.perf_counter()
        losses = train(label, model, make_optimizer(model), *training, options.steps)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            logits = model(test[0])
        loss, right = cross_entropy(logits, test[1]), (logits.argmax(1) == test[1]).float().mean()
        table += f"{label:24}| {np.mean(losses[-100:]):13.3f} | {loss:9.3f} | {right:13.1%} "
        table += f"| {seconds:7.1f}\n"
        axes.plot(np.convolve(losses, np.ones(20) / 20, "valid"), label=label)
    print(table)
    axes.set(xlabel="step", ylabel="training loss (mean of 20)", yscale="log", title=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    options.out.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(options.out / "quickstart.png", dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
