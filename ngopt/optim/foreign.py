"""Options of other optimizers, which are refused rather than passed over in silence."""

from collections.abc import Mapping
from typing import Any

from ngopt.errors import OptionError

_MOMENTA = "the rule has momenta of its own, as it was meta-trained with"
_LOOPS = "steps are joined and compiled by themselves where that is possible"
FOREIGN = {
    "betas": _MOMENTA,
    "momentum": _MOMENTA,
    "nesterov": _MOMENTA,
    "amsgrad": _MOMENTA,
    "eps": "steps do not depend on the scale of gradients, and zero gradients move nothing",
    "fused": _LOOPS,
    "foreach": _LOOPS,
}
"""What plays the role of each here."""


def check_foreign(options: Mapping[str, Any]) -> None:
    """Raise `OptionError` for options of other optimizers, `TypeError` for what nobody knows."""
    for name in options:
        if name not in FOREIGN:
            raise TypeError(f"NeuralGraphOptimizer has no argument {name!r}")
        raise OptionError(
            f"{name}= is an option of other optimizers, which has no meaning here: "
            f"{FOREIGN[name]}.\n  Leave it out. What can be set is lr, weight_decay, maximize, and "
            "the rule."
        )


def check_group_options(group: Mapping[str, Any]) -> None:
    """Raise `OptionError` if somebody wrote an option of another optimizer into a group.

    Groups taken from another optimizer hold all of its options, which nobody wrote: those stay, as
    whatever else a group holds.
    """
    taken_over = {"foreach", "differentiable"} <= group.keys()
    if not taken_over:
        check_foreign({name: value for name, value in group.items() if name in FOREIGN})
