"""Features of entries for SmallFC and Celo2, and their running state, as in Adafactor."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.factored import Factors, Rate, factor_sizes, split_factors, update_factors
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout

MOMENTA = ("momentum0", "momentum1", "momentum2")
Shapes = dict[str, tuple[int, ...]]


class Rates(NamedTuple):
    """How fast the running means forget: 1 minus their decays.

    Args:
        momenta: of the three momenta.
        square: of the mean of squared gradients.
        factors: of the three row and column means of squared gradients.
    """

    momenta: Sequence[Rate]
    square: Rate
    factors: Sequence[Rate]


class Entry(NamedTuple):
    """Features of each entry of one bundle, in the order of their source.

    Each is an array that broadcasts to `(group, out, in, tap)`.

    Args:
        own: gradient, weight, momenta, mean square, momenta over its root, one over its root, and
            the gradient over the root of the factored mean squares; 13 in all.
        factored: row means, column means, one over the root of each, and the momenta over the root
            of the factored mean squares; 15 in all.
    """

    own: list[Tensor]
    factored: list[Tensor]


def state_shapes(layout: Layout) -> Shapes:
    """Shapes of the tensors of the state of one parameter, by name."""
    rows, columns = factor_sizes(layout)
    return {
        "step": (),
        **{name: layout.shape for name in (*MOMENTA, "square")},
        "rows": (len(MOMENTA), rows),
        "columns": (len(MOMENTA), columns),
    }


def zeros(parameter: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """The state of one parameter before its first step."""
    dtypes = {name: compute_dtype(parameter) for name in shapes} | {"step": torch.float32}
    return {name: parameter.new_zeros(shape, dtype=dtypes[name]) for name, shape in shapes.items()}


def fitted(state: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
    """The state, where what does not fit the graph that has been found begins anew."""
    return {
        name: state[name] if state[name].shape == shape else state[name].new_zeros(shape)
        for name, shape in shapes.items()
    }


def accumulate(
    state: Mapping[str, Tensor], gradient: Tensor, layout: Layout, rates: Rates
) -> dict[str, Tensor]:
    """Take one gradient into the state.

    Args:
        state: of one parameter; left as it is.
        gradient: of the parameter's shape; everything is computed in its dtype.
        layout: of the parameter.
        rates: of the running means.

    Returns:
        The new state, not yet rounded to the dtype it is stored in.
    """
    dtype = gradient.dtype
    new = {
        name: torch.lerp(state[name].to(dtype), gradient, rate)
        for name, rate in zip(MOMENTA, rates.momenta, strict=True)
    }
    new["square"] = torch.lerp(state["square"].to(dtype), gradient.square(), rates.square)
    new["rows"], new["columns"] = update_factors(
        state["rows"].to(dtype), state["columns"].to(dtype), gradient, layout, rates.factors
    )
    return {"step": state["step"] + 1, **new}


def entries(
    gradient: Tensor, parameter: Tensor, state: Mapping[str, Tensor], layout: Layout, eps: float
) -> list[Entry]:
    """Compute the features of each bundle of a parameter.

    Args:
        gradient: the gradient that the state has taken in.
        parameter: the parameter.
        state: what :func:`accumulate` returned.
        layout: of the parameter.
        eps: added to the mean square inside its root.
    """
    tensors = [gradient, parameter.to(gradient.dtype), *(state[name] for name in MOMENTA)]
    arrays = zip(*(layout.views(tensor) for tensor in [*tensors, state["square"]]), strict=True)
    factors = split_factors(state["rows"], state["columns"], layout)
    return [_entry(group, part, eps) for group, part in zip(arrays, factors, strict=True)]


def unit_stack(features: Sequence[Tensor], dims: tuple[int, ...], eps: float) -> Tensor:
    """Divide features by their root mean squares and stack them.

    Args:
        features: arrays that broadcast to the shape of the first, `(group, out, in, tap)`.
        dims: what the mean runs over.
        eps: added to the mean square inside its root.

    Returns:
        `(group, out, in, tap, features)`.
    """
    scaled = [x * (x.square().mean(dims, keepdim=True) + eps).rsqrt() for x in features]
    return torch.stack([x.expand_as(scaled[0]) for x in scaled], -1)


def _entry(arrays: Sequence[Tensor], factors: Factors, eps: float) -> Entry:
    gradient, weight, *momenta, square = arrays
    root = (square + eps).rsqrt()
    scales = factors.scale().unbind(0)
    own = [gradient, weight, *momenta, square, *(m * root for m in momenta), root]
    own += [gradient * scale for scale in scales]
    means = [*factors.rows.unbind(0), *factors.columns.unbind(0)]
    factored = [*means, *((mean + 1e-8).rsqrt() for mean in means)]
    if factors.whole is None:
        scales = (factors.rows + 1e-6).rsqrt().unbind(0)
    factored += [m * scale for m, scale in zip(momenta, scales, strict=True)]
    return Entry(own, factored)
