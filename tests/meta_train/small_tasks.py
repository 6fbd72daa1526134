"""Tasks and rules so small that what is true of them is known, and that remember what they drew."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from meta_train.data.dataset import Dataset
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Problem, Task
from meta_train.unroll.runs import mapped
from ngopt.rules import LSTM, NGGNN, MatrixGNN, SmallFC
from ngopt.rules.tensor_rule import TensorRule
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import randomize

SPACES = spaces(x=2, y=2)


class Quadratic(Task):
    """Half of `curvature * (w - target - shift)^2`, whose shift is the batch.

    Args:
        spread: how much the targets of problems differ.
        noise: how much the shifts of batches do.
        dtype: of everything.
    """

    name = "quadratic"
    graph = graph(SPACES, [layout(SPACES, "w", ["y", "x"], "oi", kind="linear")])

    def __init__(self, spread=0.0, noise=0.0, dtype=torch.float64):
        self.spread, self.noise, self.dtype = spread, noise, dtype
        self.drawn = []

    def problem(self, generator):
        shift = torch.randn(2, 2, generator=generator, dtype=self.dtype)
        target = torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=self.dtype) + self.spread * shift
        curvature = torch.tensor([[1.0, 0.5], [2.0, 0.8]], dtype=self.dtype)
        context = {"target": target, "curvature": curvature}
        return Problem({"w": torch.zeros(2, 2, dtype=self.dtype)}, context)

    def batches(self, context, runs, generator, split="train"):
        shift = torch.randn(runs, 2, 2, generator=generator, dtype=self.dtype)
        self.drawn.append((split, (self.noise * shift,)))
        return self.drawn[-1][1]

    def loss(self, parameters, context, batch):
        gap = parameters["w"] - context["target"] - batch[0]
        return 0.5 * (context["curvature"] * gap.square()).sum()

    def to(self, device):
        return self


class Network(ModelTask):
    """A small smooth network that learns random labels in double precision."""

    def __init__(self, batch=8, dtype=torch.float64):
        generator = torch.Generator().manual_seed(5)
        images = torch.randn(40, 3, generator=generator, dtype=dtype)
        labels = torch.randint(2, (40,), generator=generator)
        splits = dict.fromkeys(("train", "held_out", "test"), (images, labels))

        def build():
            return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)

        super().__init__(build, Dataset("random", splits, 2), cross_entropy, batch)
        self.drawn = []

    def batches(self, context, runs, generator, split="train"):
        batch = super().batches(context, runs, generator, split)
        self.drawn.append((split, batch))
        return batch


class Descent(TensorRule):
    """Momentum descent; theta are the log step sizes of even and odd rows, and the momentum."""

    def __init__(self, rate=0.3, momentum=0.5):
        super().__init__()
        self.log_rate = nn.Parameter(torch.full((2,), rate, dtype=torch.float64).log())
        self.momentum = nn.Parameter(torch.tensor(momentum, dtype=torch.float64))

    @property
    def config(self):
        return {}

    def begin(self, parameter, layout):
        return {"step": torch.zeros(()), "velocity": torch.zeros_like(parameter)}

    def advance(self, parameter, gradient, state, layout):
        velocity = self.momentum * state["velocity"] + gradient
        new = {"step": state["step"] + 1, "velocity": velocity}
        rates = torch.exp(self.log_rate)[torch.arange(len(parameter)) % 2]
        return rates.view(-1, *[1] * (parameter.dim() - 1)) * velocity, new


class Drift(TensorRule):
    """Moves each row by theta, whatever the gradients: a quadratic loss is quadratic in theta."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.1, -0.2], dtype=torch.float64))

    @property
    def config(self):
        return {}

    def begin(self, parameter, layout):
        return {"step": torch.zeros(())}

    def advance(self, parameter, gradient, state, layout):
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        return self.theta[:, None] * signs + 0 * gradient, {"step": state["step"] + 1}


def small_rule(name):
    """A small learned rule in double precision, with random theta."""
    rule = {
        "matrix_gnn": lambda: MatrixGNN(width=4, rounds=1, hidden=4),
        "ng_gnn": lambda: NGGNN(width=4, layers=1),
        "lstm": lambda: LSTM(hidden=4),
        "small_fc": lambda: SmallFC(hidden=(4,)),
    }[name]()
    return randomize(rule).double()


SMALL_RULES = ("matrix_gnn", "ng_gnn", "lstm", "small_fc")
MEASURES = ("next", "same", "held_out")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stripped(runs, *without):
    """The tensors of runs but some."""
    return {name: tensors for name, tensors in runs.tensors().items() if name not in without}


def of_runs(tensors, which):
    """The tensors of some of the runs."""
    return mapped(lambda tensor: tensor[which], tensors)


def leaves(tensors):
    """The tensors of nested dicts, in order."""
    if isinstance(tensors, torch.Tensor):
        return [tensors]
    return [leaf for value in tensors.values() for leaf in leaves(value)]


def equal(a, b):
    """Whether nested dicts of tensors are the same, bit by bit."""
    return all(leaves(mapped(lambda x, y: torch.tensor(torch.equal(x, y)), a, b)))


def difference(a, b):
    """Largest difference of nested dicts of tensors, relative to the largest entry of each."""
    pairs = zip(*(leaves(mapped(torch.Tensor.double, tensors)) for tensors in (a, b)), strict=True)
    ratios = [(x - y).abs().max() / y.abs().max().clamp(min=1e-12) for x, y in pairs if x.numel()]
    return torch.stack(ratios).max().item()
