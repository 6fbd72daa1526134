"""Size limit: a network from a file is not built larger than allowed, whatever its config says."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

CALL = 64
"""Numbers that a call of torch counts as, for many small ones are not free either."""


class SizeLimit(TorchFunctionMode):
    """Context that refuses to create tensors of more numbers than a limit, in total.

    A config in a file may ask for any size. What it asks for is made by functions of torch, which
    are given the size first, so that nothing is allocated before it is refused.

    Args:
        numbers: the bound. `ValueError` tells that it is reached.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function, unless it or all of them together make too much."""
        kwargs = kwargs or {}
        size = kwargs.get("size", args[0] if args and isinstance(args[0], list | tuple) else args)
        if not any(isinstance(arg, Tensor) for arg in args):
            self.left -= math.prod(n for n in size if isinstance(n, int) and n > 0)
        self.left -= CALL
        if self.left < 0:
            raise ValueError("its config asks for more weights than are in the file")
        return func(*args, **kwargs)
