"""A small convnet that learns from a larger, trained one, on FashionMNIST."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads import fashion_convnet
from benchmarks.workloads.classification import Classification
from benchmarks.workloads.evaluating import outputs
from benchmarks.workloads.trained import trained
from benchmarks.workloads.workload import Recipe, Workload
from meta_train.data.dataset import Dataset
from meta_train.data.images import images

EPOCHS, BATCH, TEMPERATURE, SOFT = 5, 128, 2.0, 0.25
STEPS = EPOCHS * (55_000 // BATCH)


@cache
def taught() -> Dataset:
    """FashionMNIST with a teacher's logits (n, 10) as third tensor of the training split.

    The teacher is the convnet that the recipe of `fashion_convnet` has trained, the same for all
    seeds of students.
    """
    data = images("fashion_mnist", 28)
    teacher = trained(fashion_convnet.WORKLOAD)
    train = data.splits["train"]
    splits = {**data.splits, "train": (*train, outputs(teacher, train[0]))}
    return Dataset(data.name, splits, data.classes)


def student() -> nn.Sequential:
    """Two narrow convolutions with pooling, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 7 * 7, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


class Distillation(Classification):
    """Training of the student on labels and on the teacher's probabilities."""

    def __init__(self, seed: int) -> None:
        data = taught()
        torch.manual_seed(seed)
        recipe = Recipe(torch.optim.Adam, lr=1e-3)
        super().__init__(student(), recipe, data, seed, batch=BATCH, tested=5000)

    def loss(self) -> Tensor:
        """A quarter of the divergence from the teacher, softened, and three of cross-entropy."""
        inputs, labels, teacher = next(self.batches)
        logits = self.model(inputs)
        wanted = (teacher / TEMPERATURE).log_softmax(1)
        found = (logits / TEMPERATURE).log_softmax(1)
        soft = F.kl_div(found, wanted, reduction="batchmean", log_target=True) * TEMPERATURE**2
        return SOFT * soft + (1 - SOFT) * F.cross_entropy(logits, labels)


WORKLOAD = Workload(
    name="distillation",
    title="distillation of a convnet, FashionMNIST",
    build=Distillation,
    steps=STEPS,
    every=STEPS // 15,
    metric="test accuracy",
    higher=True,
    source="after PyTorch's tutorial on knowledge distillation, "
    "https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html; "
    "FashionMNIST, small convnets",
)
