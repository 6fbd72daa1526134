"""Functions that are recorded when they are first called with tensors of some shapes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ngopt.fused.build import NoCompilerError
from ngopt.fused.switch import fusible, give_up
from ngopt.replay.containers import form, leaves, like
from ngopt.replay.program import Program
from ngopt.replay.recorder import UnsupportedError, record


class Replay:
    """A pure function, which is recorded at first and then run without Python.

    Args:
        function: of nested dictionaries and tuples of tensors, and returning such. It changes
            nothing, and what it does follows from their names, shapes, strides and dtypes alone.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._programs: dict[Any, tuple[Program, Any] | None] = {}

    def __call__(self, *arguments: Any) -> Any | None:
        """Return what the function would return, up to rounding.

        None where it cannot be replayed: derivatives are wanted, a tensor is not on the CPU, or it
        does something for which there are no instructions.
        """
        given = list(leaves(arguments))
        if not fusible(given):
            return None
        looks = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in given)
        key = form(arguments), looks
        if key not in self._programs:
            self._programs[key] = self._recorded(arguments)
        found = self._programs[key]
        if found is None:
            return None
        program, returned = found
        return like(returned, iter(program(given)))

    def _recorded(self, arguments: tuple[Any, ...]) -> tuple[Program, Any] | None:
        try:
            recording, returned = record(self._function, arguments)
            nothing = torch.empty(0)
            return Program(recording), tree_map_only(Tensor, lambda _: nothing, returned)
        except UnsupportedError:
            return None
        except NoCompilerError as reason:
            give_up(reason)
            return None
