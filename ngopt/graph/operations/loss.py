"""Losses, where a model computes its own."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import Recorder


@operation("cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "nll_loss2d",
           "multi_margin_loss", "multilabel_margin_loss", "linear_cross_entropy")  # fmt: skip
def by_class(recorder: Recorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Classes (dim 1, or the only one) are told apart by the targets."""
    axes = recorder.axes(input)
    dim = min(1, len(axes) - 1)
    recorder.pin("its indices are classes", axes[dim])
    recorder.put(out, [a for d, a in enumerate(axes) if d != dim] if out.dim() else [])


@operation("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
           "binary_cross_entropy_with_logits", "kl_div", "soft_margin_loss", "poisson_nll_loss",
           "multilabel_soft_margin_loss", "hinge_embedding_loss")  # fmt: skip
def by_entry(recorder: Recorder, out: Tensor, input: Tensor, target: Tensor, *args: Any,
             **kwargs: Any) -> None:  # fmt: skip
    """Entry by entry, then summed over all dims or none."""
    axes = recorder.broadcast(input.shape, input, target)
    recorder.put(out, axes if out.dim() else [])
