"""Watch a training run in TensorBoard: what the optimizer does to each layer, and why.

    python examples/02_monitor.py --out runs
    tensorboard --logdir runs

The lines that a training loop needs for it are marked by `# monitor`. Adam trains a copy of the
model, so that its curves lie over ours.
"""

import argparse
import copy
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ngopt import Monitor, NeuralGraphOptimizer

GUIDE = """
Written to {folder}. Look at it with:  tensorboard --logdir {folder}

  Scalars     loss and accuracy; sizes of weights, gradients and updates; the factors that the rule
              has chosen for its steps, and the angle to Adam's step
  Images      the graph
  Histograms  the weights
  Text        the rule, its options, and the graph in words

Adam's curves lie over ours. With --per-tensor, there are numbers and pictures of each layer.
"""


def train(optimizer: Optimizer, model: nn.Module, options: argparse.Namespace) -> None:
    """Train on digits and write what happens."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16).float()[:, None]  # (1797, 1, 8, 8)
    labels = torch.tensor(digits.target)
    with Monitor(  # monitor
        optimizer, options.out, every=10, angle_to_adam=True, per_tensor=options.per_tensor
    ) as monitor:
        for _ in range(options.steps):
            batch = torch.randint(len(labels), (128,))
            logits = model(images[batch])
            loss = cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(1) == labels[batch]).float().mean()
            monitor.log(loss=loss, accuracy=accuracy)  # monitor
    name = type(optimizer).__name__
    print(f"{name}, after {options.steps} steps: loss {loss:.4f}, accuracy {accuracy:.1%}.")


def main() -> None:
    """Train a small convnet with the learned optimizer, and a copy of it with Adam."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for TensorBoard")
    parser.add_argument("--per-tensor", action="store_true", help="write numbers of each tensor")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    twin = copy.deepcopy(model)
    train(NeuralGraphOptimizer(model), model, options)
    train(torch.optim.Adam(twin.parameters()), twin, options)
    print(GUIDE.format(folder=options.out))


if __name__ == "__main__":
    main()
