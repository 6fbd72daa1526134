"""What an entry of the zoo is: a small model, an input for it, and the truth about its neurons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

Model: TypeAlias = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
"""A model, and positional and keyword arguments for its forward pass."""


@dataclass(frozen=True)
class Entry:
    """A model and what theory says about the permutations that it is invariant to.

    Args:
        make: returns the model and its arguments; may draw random numbers.
        hidden: the hidden spaces, sorted: "12" is a space of 12 neurons, "5 in 3" a space of 5
            inside each of 3, permuted independently in each of them.
        pinned: names of the parameters that touch no hidden space, sorted.
        tolerance: relative error of the output in float64 under a permutation; only models that
            compute in float32 by themselves need more than the default.
    """

    make: Callable[[], Model]
    hidden: tuple[str, ...]
    pinned: tuple[str, ...]
    tolerance: float = 1e-9

    def build(self) -> Model:
        """Make the model from a fixed seed; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make()

    def build_random(self) -> Model:
        """The model in float64 and eval mode, with every weight random.

        No layer is then at a degenerate point, such as zero biases or unit norms, where a wrong
        permutation would go unnoticed.
        """
        model, args, kwargs = self.build()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            for parameter in model.double().parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_()
                if name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return model.eval(), _double(args), _double(kwargs)


def entry(
    *hidden: str, pinned: str = "", tolerance: float = 1e-9
) -> Callable[[Callable[[], Model]], Entry]:
    """Decorate the function that makes a model; it becomes an entry.

    Args:
        *hidden: the hidden spaces, in any order.
        pinned: names of the parameters without hidden neurons, separated by blanks.
        tolerance: see :class:`Entry`.
    """
    return lambda make: Entry(make, tuple(sorted(hidden)), tuple(sorted(pinned.split())), tolerance)


def _double(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _double(item) for key, item in value.items()}
    return tuple(_double(item) for item in value) if isinstance(value, tuple) else value
