"""Handlers of a user's own operations, as a pattern of axes or as a function."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ngopt.errors import TraceError
from ngopt.graph.layout import Kind
from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import Handler, register_function
from ngopt.graph.recorder import TraceRecorder

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def register_operation(
    function: Callable[..., Any], handler: str | Handler, kind: Kind = "other"
) -> None:
    """Teach tracing what an operation does to axes.

    Plain Python functions made of torch operations need no handler. One is needed for custom
    operators (`torch.library.custom_op`, `torch.ops.*`), and to replace the handler of a torch
    function.

    Args:
        function: the operation, as models call it.
        handler: a pattern of named axes, such as `"... i, o i -> ... o"`: one group per tensor
            argument, in the order of the arguments, then the result. Equal names are the same
            neurons. A name that the result lacks is summed over; `name!` marks an axis along which
            the order matters; a name that only the result has is new and pinned. Or a function
            `handler(recorder, out, *args, **kwargs)`; see :mod:`ngopt.graph.operations.registry`.
        kind: the kind of layer, which becomes a feature of the parameters it uses.

    Raises:
        TraceError: if the pattern cannot be read.

    Example:
        >>> import torch, ngopt
        >>> @torch.library.custom_op("doc::scaled_mix", mutates_args=())
        ... def scaled_mix(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ...     return 2 * x @ weight.T
        >>> ngopt.register_operation(scaled_mix, "... i, o i -> ... o", kind="linear")
    """
    if isinstance(handler, str):
        handler = _Pattern(function, handler)
    for face in _faces(function):
        register_function(face, handler, kind)


def _faces(function: Any) -> list[Callable[..., Any]]:
    """A custom operator is called under several guises."""
    overload = getattr(function, "_opoverload", function)
    packet = getattr(overload, "_overloadpacket", getattr(overload, "overloadpacket", overload))
    overloads = [getattr(packet, name) for name in getattr(packet, "overloads", list)()]
    return [function, overload, packet, *overloads]


class _Pattern:
    """The handler that a pattern stands for."""

    def __init__(self, function: Callable[..., Any], pattern: str) -> None:
        self._name = getattr(function, "__name__", str(function))
        self._pattern = pattern
        sides = pattern.split("->")
        if len(sides) != 2:
            raise TraceError(
                f"cannot read the pattern {pattern!r} for `{self._name}`: it needs one `->` after "
                'the arguments, as in "... i, o i -> ... o".'
            )
        self._ordered = {w.rstrip("!") for w in pattern.replace(",", " ").split() if "!" in w}
        groups = [group.replace("!", "").split() for group in [*sides[0].split(","), sides[1]]]
        words = sorted({word for group in groups for word in group} - {"..."})
        if len(words) > len(_LETTERS) or not all(word.isidentifier() for word in words):
            raise TraceError(
                f"cannot read the pattern {pattern!r} for `{self._name}`: axes need names, such as "
                '"batch" or "i", separated by spaces.'
            )
        self._letters = dict(zip(words, _LETTERS, strict=False))
        *self._inputs, self._output = groups

    def __call__(self, recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
        given = list(tensors(args, kwargs))
        self._check(given, out)
        dots = [t.dim() - len(g) + 1 for t, g in zip(given, self._inputs, strict=True)]
        inputs = [self._spell(g, n) for g, n in zip(self._inputs, dots, strict=True)]
        spanned = [n for g, n in zip(self._inputs, dots, strict=True) if "..." in g]
        output = self._spell(self._output, max(spanned, default=0))
        for word in self._ordered:
            self._pin(recorder, self._letters[word], inputs, given)
        kept = "".join(x for x in output if any(x in letters for letters in inputs))
        axes = dict(zip(kept, recorder.contract(inputs, kept, given), strict=True))
        new = "new in the result of an operation"
        recorder.put(
            out,
            [axes.get(x) or recorder.fresh(n, new) for x, n in zip(output, out.shape, strict=True)],
        )

    def _check(self, given: list[Tensor], out: Any) -> None:
        fits = len(given) == len(self._inputs) and all(
            t.dim() == len(group) or ("..." in group and t.dim() >= len(group) - 1)
            for t, group in zip(given, self._inputs, strict=True)
        )
        if not fits or not isinstance(out, Tensor):
            raise TraceError(
                f"the pattern {self._pattern!r} of `{self._name}` does not fit its arguments, of "
                f"shapes {[tuple(t.shape) for t in given]}.\n  Register a pattern with one group "
                "per tensor argument and one name per axis, or a handler written as a function."
            )

    def _spell(self, group: list[str], dots: int) -> str:
        """One letter per axis; those of `...` align from the right."""
        spare = "ZYXWVUTSRQPONMLKJIHGFEDCBA"[:dots][::-1] if dots > 0 else ""
        return "".join(spare if word == "..." else self._letters[word] for word in group)

    def _pin(
        self, recorder: TraceRecorder, letter: str, inputs: list[str], given: list[Tensor]
    ) -> None:
        for letters, tensor in zip(inputs, given, strict=True):
            if letter in letters:
                dim = letters.index(letter)
                recorder.pin(f"its order matters to {self._name}", recorder.axes(tensor)[dim])
                recorder.mix(tensor, [dim])
