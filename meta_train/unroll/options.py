"""How inner runs are trained and measured."""

from dataclasses import dataclass
from typing import Literal

from meta_train.errors import MetaTrainError


@dataclass(frozen=True)
class UnrollOptions:
    """How inner runs are trained and measured.

    Args:
        lr: learning rate of the inner runs.
        lr_spread: learning rates are drawn log-uniformly from `lr / lr_spread` to `lr * lr_spread`,
            one for each run, so that `lr` keeps its meaning.
        weight_decay: decoupled weight decay of the inner runs.
        measure: which batch the loss after each step is measured on: the `next` batch of training
            (costs nothing more), the `same` as that of the step, or one `held_out` from training.
        second_order: differentiate through the inner gradients as well.
        diverged_above: a run whose loss is not finite, or this many times that of the untrained
            model, has diverged: it stands still, and is started anew.
    """

    lr: float = 1e-3
    lr_spread: float = 1.0
    weight_decay: float = 0.0
    measure: Literal["next", "same", "held_out"] = "next"
    second_order: bool = False
    diverged_above: float = 100.0

    def __post_init__(self) -> None:
        if self.lr < 0 or self.lr_spread < 1 or self.weight_decay < 0 or self.diverged_above <= 1:
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use lr >= 0, lr_spread >= 1, weight_decay >= 0, "
                "diverged_above > 1."
            )
