"""Operations that make tensors from nothing."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder

_UNIFORM = """
zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full
new_empty zero fill
"""

_NOISE = """
kaiming_uniform kaiming_normal xavier_uniform xavier_normal trunc_normal orthogonal
rand randn randint rand_like randn_like randint_like uniform exponential cauchy log_normal
geometric
"""

_CONSTANT = """
arange linspace logspace range eye tensor as_tensor scalar_tensor from_numpy tril_indices
triu_indices randperm hann_window hamming_window
"""


_CONSTANT_HERE = "a constant made in the forward pass"


@operation(*_UNIFORM.split())
def uniform(recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
    """All entries are equal, so the axes may run over anything."""
    recorder.put(out, [recorder.fresh(n) for n in out.shape], uniform=True)


@operation(*_NOISE.split())
def noise(recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
    """Entries are drawn alike, so that, as in dropout, any order of them is as likely."""
    recorder.put(out, [recorder.fresh(n) for n in out.shape])


@operation("normal")
def normal(recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
    """Entries are drawn with the means and deviations given, if these are tensors."""
    recorder.put(out, recorder.broadcast(out.shape, *tensors(args, kwargs)))


@operation("bernoulli")
def bernoulli(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Entries are drawn with the probabilities of the input."""
    recorder.put(out, recorder.axes(input))


@operation(*_CONSTANT.split())
def constant(recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
    """Entries differ by their place, so the axes are pinned; so are those that values come from."""
    for tensor in tensors(args, kwargs):
        recorder.pin(_CONSTANT_HERE, *recorder.axes(tensor))
    recorder.put(out, [recorder.fresh(n, _CONSTANT_HERE) for n in out.shape])


@operation("new_tensor")
def new_tensor(recorder: TraceRecorder, out: Tensor, input: Tensor, data: Any, **_: Any) -> None:
    """The input gives no more than its type."""
    constant(recorder, out, data)


@operation("one_hot")
def one_hot(recorder: TraceRecorder, out: Tensor, input: Tensor, *_: Any, **__: Any) -> None:
    """A new last axis over classes."""
    recorder.put(out, [*recorder.axes(input), recorder.fresh(out.shape[-1], "classes")])
