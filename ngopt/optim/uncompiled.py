"""Methods that a compiler is to leave alone."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch._compile import _disable_dynamo

Method = TypeVar("Method", bound=Callable[..., Any])


def uncompiled(method: Method) -> Method:
    """Keep a function out of `torch.compile`.

    As torch's own optimizers do it: `torch.compiler.disable` would import the compiler (2 s) now.
    """
    return cast(Method, _disable_dynamo(method))
