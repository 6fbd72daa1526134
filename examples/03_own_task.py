"""Register a family of tasks of your own, and meta-train a rule on it.

    python examples/03_own_task.py

On the command line, the module of a family goes into `--imports`.
"""

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_wine
from torch import nn
from torch.nn.functional import cross_entropy

import ngopt
from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.data.dataset import Dataset
from meta_train.tasks.family import Family, family_of, register
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Task
from meta_train.train import meta_train
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules import Adam, MatrixGNN, Rule


@cache
def wine() -> Dataset:
    """13 chemical measurements of 178 wines, and which of three cultivars each is from."""
    measured, labels = map(torch.tensor, load_wine(return_X_y=True))
    measured = ((measured - measured.mean(0)) / measured.std(0)).float()
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = zip(("train", "held_out", "test"), mixed.split([98, 40, 40]), strict=True)
    return Dataset("wine", {split: (measured[i], labels[i]) for split, i in parts}, classes=3)


@register("wine")
@dataclass(frozen=True)
class Wine(Family):
    """Networks that tell the cultivar of a wine. Each field is a tuple of choices."""

    width: tuple[int, ...] = (8, 16, 32)
    dropout: tuple[float, ...] = (0.0, 0.2)

    def task(self, width: int, dropout: float) -> ModelTask:
        """Build the task of one choice of each field."""

        def build() -> nn.Module:
            into, out = nn.Linear(13, width), nn.Linear(width, 3)
            return nn.Sequential(into, nn.Tanh(), nn.Dropout(dropout), out)

        return ModelTask(build, wine(), cross_entropy, batch=32)


def train(rule: Rule, task: Task, lr: float) -> torch.Tensor:
    """Median training loss of 16 runs after each of 100 steps."""
    unroll = Stacked(rule, UnrollOptions(lr=lr))
    with torch.no_grad():
        runs = unroll.begin(task, 16, torch.Generator().manual_seed(1))
        return unroll.advance(runs, 100).losses.median(1).values


def main() -> None:
    """Meta-train a rule on the family, and train a task of it with that rule and with Adam."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="wine", help="name and options: wine:width=8|64")
    parser.add_argument("--steps", type=int, default=30, help="outer steps")
    parser.add_argument("--out", type=Path, default=Path("runs/wine"), help="folder of the run")
    options = parser.parse_args()

    task = family_of(options.family).sample(torch.Generator().manual_seed(0))
    print(f"{task.name} has this graph:\n\n{task.graph.summary()}\n")

    # Short, and without evaluations: the comparison comes below.
    less = {"problems": 8, "truncation": 20, "board": BoardOptions(every=0)}
    config = Config(folder=options.out, families=(options.family,), steps=options.steps, **less)
    learned = meta_train(config).rule
    ngopt.save_rule(learned, options.out / "wine.safetensors")

    axes = Figure((6, 4), layout="constrained").subplots()
    rules = {"fresh": MatrixGNN(), "meta-trained": learned}  # at their own learning rates
    curves = {f"Adam, lr {lr:g}": train(Adam(), task, lr) for lr in (1e-2, 3e-2)}
    curves |= {name: train(rule, task, rule.lr) for name, rule in rules.items()}
    for name, losses in curves.items():
        axes.plot(losses, label=name)
        print(f"{name}: median loss {losses[0]:.3f} at first, {losses[-1]:.4f} after 100 steps")
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=task.name)
    axes.legend()
    axes.figure.savefig(options.out / "wine.png")
    print(f'Use it: NeuralGraphOptimizer(model, rule="{options.out / "wine.safetensors"}")')


if __name__ == "__main__":
    main()
