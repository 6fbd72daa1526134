"""How large tensors and updates are, and how far apart they point."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ngopt.errors import OptionError

Tensors = Tensor | Mapping[str, Tensor]
"""One tensor, or all tensors of a model, by name."""


def rms(tensor: Tensor) -> Tensor:
    """Root mean square over all entries, 0-dim; NaN for an empty tensor.

    Unlike the features of rules, it has no smallest magnitude.

    >>> rms(torch.tensor([3.0, 4.0, 0.0, 0.0]))
    tensor(2.5000)
    """
    wide = _wide(tensor)
    per_entry = 1 / wide.numel() if wide.numel() else math.nan
    size: Tensor = torch.linalg.vector_norm(wide) * math.sqrt(per_entry)
    return size


def change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a step has added to each tensor.

    Args:
        before: copies of the tensors before the step, by name.
        after: the tensors after it; those that are not in `before` are left out.

    Returns:
        The differences, in at least single precision.
    """
    return {name: _wide(after[name]) - _wide(old) for name, old in before.items() if name in after}


def sizes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """How large weights, gradients and updates are in one step, tensor by tensor.

    Args:
        before: copies of the tensors before the step, by name.
        after: the tensors after it; may hold more.
        gradients: the gradients of the step; may hold more.

    Returns:
        0-dim tensors `weight_rms/NAME` (before the step), `gradient_rms/NAME`, `update_rms/NAME`
        and `relative_update/NAME`, the update's over the weight's: infinite for a tensor that was
        0, such as a fresh bias, and NaN if that has not moved.
    """
    result = {}
    for name, difference in change(before, after).items():
        weight, update = rms(before[name]), rms(difference)
        result[f"weight_rms/{name}"] = weight
        result[f"gradient_rms/{name}"] = rms(gradients[name])
        result[f"update_rms/{name}"] = update
        result[f"relative_update/{name}"] = update / weight
    return result


def totals(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """How large weights, gradients and updates are in one step, over all tensors.

    Args:
        before: as for :func:`sizes`.
        after: as for :func:`sizes`.
        gradients: as for :func:`sizes`.

    Returns:
        0-dim tensors: the norms `weight_norm` (before the step), `gradient_norm` and `update_norm`
        of all entries as one long vector, and `relative_update`, the update's over the weights'.
    """
    moves = change(before, after)
    weight, gradient, update = (
        _norm([_wide(tensors[name]) for name in moves]) for tensors in (before, gradients, moves)
    )
    return {
        "weight_norm": weight,
        "gradient_norm": gradient,
        "update_norm": update,
        "relative_update": update / weight,
    }


def angle(first: Tensors, second: Tensors) -> Tensor:
    """Angle between two updates, in degrees from 0 to 180.

    Args:
        first: an update; one tensor, or those of a model by name, seen as one long vector.
        second: another, of the same shapes, each on the device of the first.

    Returns:
        0-dim tensor; NaN if either update is 0. Small angles are exact: it is not computed by the
        arc cosine, which cannot tell them from 0.

    Raises:
        OptionError: if the two are not of the same names.

    Source: Kahan, "How futile are mindless assessments of roundoff in floating-point
    computation?", 2006.

    Example:
        >>> angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
        tensor(45.)
        >>> update = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
        >>> angle(update, {name: -part for name, part in update.items()})
        tensor(180.)
    """
    ours, theirs = _parts(first), _parts(second)
    if ours.keys() != theirs.keys():
        raise OptionError(
            f"the updates are of different tensors: {sorted(ours)} and {sorted(theirs)}.\n"
            "  Give both for the same names."
        )
    a_norm, b_norm = _norm(list(ours.values())), _norm(list(theirs.values()))
    units = [
        (part / a_norm.to(part), theirs[name] / b_norm.to(part)) for name, part in ours.items()
    ]
    apart = _norm([a - b for a, b in units])
    together = _norm([a + b for a, b in units])
    return torch.rad2deg(2 * torch.atan2(apart, together))


def _parts(tensors: Tensors) -> dict[str, Tensor]:
    named = {"": tensors} if isinstance(tensors, Tensor) else tensors
    return {name: _wide(tensor) for name, tensor in named.items()}


def _norm(parts: list[Tensor]) -> Tensor:
    if not parts:
        return torch.tensor(math.nan)
    norms = [torch.linalg.vector_norm(part) for part in parts]
    whole: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms]))
    return whole


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().to_dense()
    return tensor if tensor.element_size() >= 4 else tensor.float()
