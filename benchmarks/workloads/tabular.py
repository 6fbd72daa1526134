"""Perceptrons on tables whose columns are as they were measured, of sizes from 0.001 to 10,000."""

from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.tasks.model_parts import perceptron


class Table(NamedTuple):
    """Rows to learn from and held-out rows.

    Args:
        train: columns (n, columns) and targets: classes (n,) int64, or numbers (n,) float32.
        held_out: the same for other rows.
        outputs: of a model: number of classes, or 1 for numbers.
    """

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    outputs: int


def cancer() -> Table:
    """Breast cancer Wisconsin: 569 rows, 30 columns from 0.001 to 4,000, two classes."""
    from sklearn.datasets import load_breast_cancer

    columns, targets = load_breast_cancer(return_X_y=True)
    return _split(torch.tensor(columns), torch.tensor(targets), outputs=2)


def diabetes() -> Table:
    """Diabetes: 442 rows, 10 columns from 1 to 300, progression from 25 to 346 to be predicted."""
    from sklearn.datasets import load_diabetes

    columns, targets = load_diabetes(return_X_y=True, scaled=False)
    return _split(torch.tensor(columns), torch.tensor(targets), outputs=1)


@cache
def prices() -> Table:
    """Generated prices: 10,000 rows, 16 columns whose scales run from 0.001 to 10,000.

    The price, around 200 with a standard deviation of 60, is a smooth function of the columns
    with a tenth of noise. Half of the columns are centred far from zero, as years are.
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = 10_000, 16
    standard = torch.randn(rows, columns, generator=generator)
    hidden = torch.randn(columns, 24, generator=generator) / columns**0.5
    mixing = torch.randn(24, generator=generator)
    signal = torch.tanh(standard @ hidden) @ mixing + standard @ hidden[:, 0]
    signal = (signal - signal.mean()) / signal.std()
    noise = 0.3 * torch.randn(rows, generator=generator)
    scales = torch.logspace(-3, 4, columns)[torch.randperm(columns, generator=generator)]
    centres = scales * torch.where(torch.arange(columns) % 2 == 0, 3.0, 0.0)
    return _split(standard * scales + centres, 200 + 60 * (signal + noise), outputs=1)


def _split(columns: Tensor, targets: Tensor, outputs: int) -> Table:
    columns = columns.float()
    targets = targets.long() if outputs > 1 else targets.float()
    mixed = torch.randperm(len(columns), generator=torch.Generator().manual_seed(0))
    held_out, train = mixed.tensor_split([len(mixed) * 3 // 10])
    return Table((columns[train], targets[train]), (columns[held_out], targets[held_out]), outputs)


class Tabular(Training):
    """Training of a perceptron with two hidden layers of 128.

    Args:
        seed: of weights and batches.
        table: makes the table.
        batch: number of rows in a step.
    """

    def __init__(self, seed: int, table: str, batch: int) -> None:
        torch.manual_seed(seed)
        self.table = {"cancer": cancer, "diabetes": diabetes, "prices": prices}[table]()
        inputs, outputs = self.table.train[0].shape[1], self.table.outputs
        self.model = nn.Sequential(*perceptron([inputs, 128, 128, outputs], "relu"))
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=1e-3))])
        generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(self.table.train, batch, generator)

    def loss(self) -> Tensor:
        """Cross-entropy in nats, or mean squared error in the units of the targets."""
        columns, targets = next(self.batches)
        return self._error(self.model(columns), targets)

    def metric(self) -> float:
        """Held-out cross-entropy, or squared error as a share of the variance of the targets."""
        columns, targets = self.table.held_out
        with evaluating(self.model):
            error = self._error(self.model(columns), targets).item()
        return error if self.table.outputs > 1 else error / targets.var(correction=0).item()

    def _error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.table.outputs > 1:
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs.squeeze(1), targets)


def _workload(
    table: str, title: str, metric: str, steps: int, batch: int, length: str = ""
) -> Workload:
    return Workload(
        name=f"tabular_{table}",
        title=f"perceptron, {title}, columns as measured",
        build=partial(Tabular, table=table, batch=batch),
        steps=steps,
        every=steps // 25,
        metric=metric,
        source="after scikit-learn's MLPClassifier and MLPRegressor: Adam, 1e-3; without scaling"
        + length,
    )


WORKLOADS = (
    _workload(
        "cancer",
        "breast cancer",
        "held-out loss",
        1500,
        32,
        # Measured over 3000 steps with two times three seeds that are not those of the benchmark.
        "; Adam's held-out loss still falls at the end",
    ),
    _workload(
        "diabetes",
        "diabetes",
        "held-out error / variance",
        450,
        32,
        "; 450 steps, after which Adam's held-out error, averaged over three seeds, is flat "
        "until step 1500",
    ),
    _workload("prices", "generated prices", "held-out error / variance", 4000, 128),
)
