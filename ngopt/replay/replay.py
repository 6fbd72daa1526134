"""Functions that are recorded when they are first called with tensors of some shapes."""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ngopt.fused.build import NoCompilerError
from ngopt.fused.switch import fusible, give_up, heard
from ngopt.replay.containers import flat, like
from ngopt.replay.program import Program
from ngopt.replay.recorder import UnsupportedError, record

LOGGER = logging.getLogger(__name__)
"""Told of each function that cannot be replayed, and why: nothing is wrong then, but slow."""

KEPT = 8
"""Number of programs of a function that are kept, those that ran last."""

EAGER = 4
"""Number of forms of arguments that are recorded as soon as they come. Where more come, as where
another part of a model has gradients at each step, most will hardly come again."""

WORTH = 6
"""How often a further form must have come to be recorded, which takes as long as running the
function about that often."""

REMEMBERED = 64
"""Number of forms that are remembered for that."""


class Replay:
    """A pure function, which is recorded at first and then run without Python.

    Args:
        function: of nested dictionaries and tuples of tensors, and returning such. It changes
            nothing, and what it does follows from their names, shapes, strides and dtypes, and from
            the number of threads, alone.
        kept: number of programs that are kept.
        eager: number of forms of arguments that are recorded when they first come.
    """

    def __init__(
        self, function: Callable[..., Any], *, kept: int = KEPT, eager: int = EAGER
    ) -> None:
        self._function = function
        self._kept, self._eager = kept, eager
        self._programs: dict[Any, tuple[Program, Any] | None] = {}
        self._waiting: dict[Any, int] = {}

    @property
    def recordings(self) -> int:
        """Number of programs that are kept: 0 if nothing was, or could be, recorded."""
        return sum(program is not None for program in self._programs.values())

    def __call__(self, *arguments: Any) -> Any | None:
        """Return what the function would return, up to rounding.

        None where it cannot be replayed: derivatives are wanted, a tensor is not on the CPU, or it
        does something for which there are no instructions; and where it would not pay, because the
        arguments look different each time. Within another function that is being
        recorded, it is part of that.
        """
        given, form = flat(arguments)
        found = self._found(arguments, given, form)
        if found is None:
            return None
        program, returned = found
        return like(returned, iter(program(given)))

    def each(self, shared: Any, stacked: Any, count: int) -> Any | None:
        """Return what `function(shared, stacked)` would return for each of several runs.

        Args:
            shared: what is the same for all runs.
            stacked: with a dimension of runs in front.
            count: number of runs, at least 1.

        Returns:
            What the function returns, with a dimension of runs in front; None as when called.
        """
        (same, form), (many, more) = flat(shared), flat(stacked)
        first = like(stacked, iter([tensor[0] for tensor in many]))
        found = self._found((shared, first), [*same, *flat(first)[0]], (*form, *more))
        if found is None:
            return None
        program, returned = found
        flags = [False] * len(same) + [True] * len(many)
        return like(returned, iter(program.each([*same, *many], flags, count)))

    def _found(
        self, arguments: tuple[Any, ...], given: list[Tensor], form: tuple[Hashable, ...]
    ) -> tuple[Program, Any] | None:
        if not fusible(given) or heard():
            return None
        looks = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in given)
        key = form, looks, torch.get_num_threads()
        if key in self._programs:
            program = self._programs.pop(key)
        elif self._pays(key):
            program = self._recorded(arguments)
        else:
            return None
        _remember(self._programs, key, program, self._kept)
        return program

    def _pays(self, key: Any) -> bool:
        """Whether it is time to record a form that has not been recorded."""
        if self._eager:
            self._eager -= 1
            return True
        count = self._waiting.pop(key, 0) + 1
        if count <= WORTH:
            _remember(self._waiting, key, count, REMEMBERED)
        return count > WORTH

    def _recorded(self, arguments: tuple[Any, ...]) -> tuple[Program, Any] | None:
        try:
            recording, returned = record(self._function, arguments)
            nothing = torch.empty(0)
            return Program(recording), tree_map_only(Tensor, lambda _: nothing, returned)
        except UnsupportedError as reason:
            LOGGER.info("not replayed, so steps are slower than they could be: %s", reason)
            return None
        except NoCompilerError as reason:
            give_up(reason)
            return None


def _remember(kept: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Put a value last, and drop the first ones if there are too many."""
    kept[key] = value
    while len(kept) > most:
        del kept[next(iter(kept))]
