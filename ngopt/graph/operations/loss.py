"""Losses, where a model computes its own."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder


@operation("cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "nll_loss2d",
           "multi_margin_loss", "multilabel_margin_loss", "linear_cross_entropy")  # fmt: skip
def by_class(
    recorder: TraceRecorder, out: Tensor, input: Tensor, target: Tensor, *_: Any, **__: Any
) -> None:
    """Classes (dim 1, or the only one) are told apart by the targets."""
    dim = min(1, input.dim() - 1)
    recorder.pin("its indices are classes", recorder.axes(input)[dim])
    recorder.mix(input, [dim])
    rest = [axis for d, axis in enumerate(recorder.axes(input)) if d != dim]
    given = recorder.axes(target)
    if target.dim() == input.dim():  # probabilities of classes, or several right classes
        given = [axis for d, axis in enumerate(given) if d != dim]
    for axis, other in zip(rest, given, strict=False):
        recorder.unify(axis, other)
    recorder.put(out, rest if out.dim() else [])


@operation("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits", "kl_div", "soft_margin_loss", "poisson_nll_loss",
           "multilabel_soft_margin_loss", "hinge_embedding_loss")  # fmt: skip
def by_entry(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Entry by entry, weighted perhaps, then summed over all dims or none."""
    axes = recorder.broadcast(input.shape, input, *tensors(args, kwargs))
    recorder.meet(*axes)
    recorder.put(out, axes if out.dim() else [])
