"""docs/images/monitor.png: the TensorBoard page of two runs that `ngopt.Monitor` has watched."""

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.functional import cross_entropy

from benchmarks.workloads.fashion_convnet import convnet
from docs.make import board
from docs.make.page import DOCS
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from ngopt import Monitor, NeuralGraphOptimizer

WIDTH, BATCH, STEPS, EVERY = 16, 128, 500, 5
"""Channels of the first layer, images in a batch, steps, and steps between points of curves."""


def make(given: Sequence[str], out: Path = DOCS / "images" / "monitor.png") -> None:
    """Train a convnet on FashionMNIST with two optimizers, and take a picture of their curves.

    Raises:
        SystemExit: if something is given, if there is no browser, or the page does not come up.
    """
    if given:
        raise SystemExit(f"{given} is too much.\n  monitor takes no arguments.")
    with TemporaryDirectory() as folder:
        train(images("fashion_mnist", 28), Path(folder), STEPS)
        board.take(folder, out)


def train(data: Dataset, folder: Path, steps: int) -> None:
    """Train with ngopt, and a copy with AdamW, on the same batches; write curves to a folder.

    Args:
        data: images (n, 1, 28, 28) and labels (n,) of ten classes.
        folder: of TensorBoard.
        steps: number of steps of each.
    """
    torch.manual_seed(0)
    model = convnet(WIDTH)
    twin = copy.deepcopy(model)
    for net, optimizer in (
        (model, NeuralGraphOptimizer(model)),
        (twin, torch.optim.AdamW(twin.parameters())),
    ):
        generator = torch.Generator().manual_seed(0)
        with Monitor(optimizer, folder, every=EVERY) as monitor:
            for _ in range(steps):
                (pictures,), (labels,) = data.sample(1, BATCH, generator, "train")
                logits = net(pictures)
                loss = cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                accuracy = (logits.argmax(1) == labels).float().mean()
                monitor.log(loss=loss, accuracy=accuracy)
