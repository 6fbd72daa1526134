"""Methods, networks and budgets of the paper's table, at the paper's scale and at a smaller one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from meta_train.config import Config
from meta_train.curves import Budget
from meta_train.presets import PRESETS

Method = Literal["adam", "ff", "across_lstm", "nfn", "ng_gnn", "ng_t", "matrix_gnn", "default"]
METHODS: dict[str, str] = {
    "adam": "Adam, tuned",
    "ff": "FF",
    "across_lstm": "LSTM",
    "nfn": "NFN",
    "ng_gnn": "NG-GNN",
    "ng_t": "NG-T",
    "matrix_gnn": "MatrixGNN",
    "default": "`default`",
}
"""Rows of the tables. The LSTM steps from tensor to tensor, as the paper's does, not from step to
step. `default` is the MatrixGNN that comes with ngopt, and is not meta-trained here."""

Table = Literal["paper", "transfer"]


@dataclass(frozen=True)
class Network:
    """A column of a table: what is trained.

    Args:
        table: which table.
        name: heading of the column.
        family: one task.
    """

    table: Table
    name: str
    family: str


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        note: how, in words.
        configs: meta-training of each method that is meta-trained.
        networks: columns of the tables.
        budgets: of the training of each network, by table.
    """

    note: str
    configs: Mapping[str, Config]
    networks: tuple[Network, ...]
    budgets: Mapping[str, Budget]


def convnet(data: str, size: int, width: int, depth: int = 3, batch: int = 128) -> str:
    """Text of one task: a convnet with `width` and then `2 * width` channels."""
    options = f"data={data},size={size},width={width},depth={depth},batch={batch}"
    return f"convnet:{options},activation=relu"


def networks(sizes: tuple[int, int], widths: tuple[int, int], transfer: int) -> tuple[Network, ...]:
    """Columns of the tables.

    Args:
        sizes: of the images of FashionMNIST and CIFAR-10, in pixels.
        widths: of the networks for them in the paper's table.
        transfer: size of the images of CIFAR-10 in the transfer table.
    """
    by_width = {f"width {w}": (w, 3) for w in (8, 16, 32, 64, 128)}
    by_depth = {f"depth {d}": (widths[1], d) for d in (1, 2, 3, 4, 5)}
    return (
        Network("paper", "FashionMNIST", convnet("fashion_mnist", sizes[0], widths[0])),
        Network("paper", "CIFAR-10", convnet("cifar10", sizes[1], widths[1])),
        *(
            Network("transfer", name, convnet("cifar10", transfer, *shape))
            for name, shape in (by_width | by_depth).items()
        ),
    )


def configs(prefix: str) -> dict[str, Config]:
    """Presets of all methods that are meta-trained."""
    given = ("adam", "default")
    return {name: PRESETS[f"{prefix}_{name}"] for name in METHODS if name not in given}


SCALES = {
    "full": Scale(
        "As in the paper: FashionMNIST at 28 x 28 pixels with the net 1-16-32-32, CIFAR-10 at "
        "32 x 32 with 3-32-64-64; 1,000 outer steps of 100 greedy inner steps (MatrixGNN: as many "
        "inner steps, by PES); transfer from the CIFAR-10 net. Theta is the last, "
        "not the best on test data.",
        configs("paper"),
        networks((28, 32), (16, 32), 32),
        {"paper": Budget(1000, 5, batches=78), "transfer": Budget(1000, 5, batches=78)},
    ),
    "small": Scale(
        "Smaller than the paper: FashionMNIST at 14 x 14 pixels with the net 1-8-16-16, CIFAR-10 "
        "at 16 x 16 with 3-16-32-32, narrower rules, and each meta-training cut to about five "
        "minutes of one CPU core: four runs side by side, restarted after 100 inner steps, of "
        "which theta moves after every 5 (MatrixGNN: eight, by PES). Transfer: "
        "CIFAR-10 at 8 x 8. Theta is the last, not the best on test data.",
        configs("small_paper"),
        networks((14, 16), (8, 16), 8),
        {"paper": Budget(1000, 5, batches=64), "transfer": Budget(300, 1, batches=64)},
    ),
}
