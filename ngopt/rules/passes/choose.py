"""Which passes suit a bundle."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.features.strand import Strand
from ngopt.fused.build import NoCompilerError
from ngopt.fused.switch import fusible, give_up
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.passes.fused import FusedPasses, Plane
from ngopt.rules.passes.kernels import ready
from ngopt.rules.passes.passes import Passes
from ngopt.rules.passes.plain import PlainPasses
from ngopt.rules.skeleton import Skeleton


def passes_of(
    weight: Tensor,
    gradient: Tensor,
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
    skeleton: Skeleton,
    head: EntryHead,
    *,
    graph: bool,
    keep: bool,
) -> Passes:
    """Choose compiled loops where they can be used, else operations of torch.

    Args:
        weight: entries of the parameter, `(group, out, in, tap)`.
        gradient: their gradient.
        state: `step` and the arrays of the moments, before this step.
        dtype: in which everything is computed.
        skeleton: of the rule.
        head: network of the entries.
        graph: whether there are messages.
        keep: whether what is computed of all entries may be kept for the next pass.
    """
    moments = [state[key] for key in Moments._fields]
    if dtype == torch.float32 and weight.dtype == gradient.dtype == dtype:
        entries = [weight, gradient, *moments]
        plane = Plane.of(entries) if fusible([*entries, state["step"]]) else None
        if plane is not None and compiled(skeleton, tuple(m.dtype for m in moments)):
            return FusedPasses(plane, weight, gradient, state, skeleton, head, graph, keep)
    strand = Strand(weight, gradient, state, dtype, keep)
    return PlainPasses(strand, state["step"] + 1, skeleton, head)


def compiled(skeleton: Skeleton, dtypes: tuple[torch.dtype, ...]) -> bool:
    """Whether loops can be compiled here; says so once if not."""
    try:
        ready(skeleton, dtypes)
    except NoCompilerError as reason:
        give_up(reason)
        return False
    return True
