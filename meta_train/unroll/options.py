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
        weight_decay: decoupled weight decay of the inner runs; None for the rule's own.
        measure: which batch the loss after each step is measured on: the `next` batch of training
            (costs nothing more), the `same` as that of the step, or one `held_out` from training.
        average: decay of a running mean of the parameters, whose loss is measured in place of
            theirs, on a batch of its own; 0 for none. Steps that are too large or noisy add little
            to it, so that a short truncation does not teach a rule to take small ones.
        looks: when the rule looks at the whole model: at `each` step, or when it is `due`, as in
            the optimizer, and at the first step of each truncation.
        second_order: differentiate through the inner gradients as well.
        diverged_above: a run whose loss is not finite, or this many times that of the untrained
            model, has diverged: it stands still, and is started anew.
    """

    lr: float = 1e-3
    lr_spread: float = 1.0
    weight_decay: float | None = 0.0
    measure: Literal["next", "same", "held_out"] = "next"
    average: float = 0.0
    looks: Literal["each", "due"] = "each"
    second_order: bool = False
    diverged_above: float = 100.0

    def __post_init__(self) -> None:
        sizes = self.lr >= 0 and self.lr_spread >= 1 and (self.weight_decay or 0.0) >= 0
        if not (sizes and 0 <= self.average < 1 and self.diverged_above > 1):
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use lr >= 0, lr_spread >= 1, weight_decay >= 0, "
                "0 <= average < 1, diverged_above > 1."
            )
