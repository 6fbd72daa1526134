"""Messages aggregated bundle by bundle, by reductions over the dimensions of arrays."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ngopt.nn.affine import Affine
from ngopt.nn.chunks import Apply, at_once
from ngopt.nn.pna import Messages, Stream, deviation


def aggregate(messages: Messages, aggregators: Sequence[str], apply: Apply = at_once) -> Tensor:
    """Aggregate messages; see :data:`ngopt.nn.pna.Aggregate`.

    No more than one stream's messages exist at a time, unless derivatives need them.

    Args:
        messages: all messages.
        aggregators: how they are aggregated.
        apply: applies a function to arrays of a stream.
    """
    near, far, degree = messages.near, messages.far, messages.degree
    index = torch.cat([stream.into.flatten() for stream in messages.streams])
    shares = torch.cat([_shares(stream, degree) for stream in messages.streams]).unsqueeze(1)

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(near).index_add(0, index, values * shares)

    def extreme(name: str, values: Tensor) -> Tensor:
        places = index.unsqueeze(1).expand_as(values)
        return torch.zeros_like(near).scatter_reduce(
            0, places, values, f"a{name}", include_self=False
        )

    if set(aggregators) == {"mean"}:
        return mean(_joined([_mean(stream, near, far) for stream in messages.streams]))
    rows = [
        apply(
            partial(_statistics, stream.modulation),
            [stream.edges, near[stream.into], far[stream.out_of]],
        )
        for stream in messages.streams
    ]
    means, variances, lows, highs = map(_joined, zip(*rows, strict=True))
    whole = mean(means)
    result = {
        "mean": whole,
        "min": extreme("min", lows),
        "max": extreme("max", highs),
        "std": deviation(mean(variances + (means - whole[index]).square())),
    }
    return torch.cat([result[name] for name in aggregators], 1)


def _joined(arrays: Sequence[Tensor]) -> Tensor:
    return torch.cat([array.flatten(0, 1) for array in arrays])


def _shares(stream: Stream, degree: Tensor) -> Tensor:
    """Part of the messages into each node that the stream brings, `(group * into,)`."""
    return stream.out_of.shape[1] / degree[stream.into.flatten()]


def _statistics(
    modulation: Affine, edges: Tensor, here: Tensor, there: Tensor
) -> tuple[Tensor, ...]:
    """Mean, variance, minimum and maximum into each node, each `(group, into, width)`."""
    scale, shift = modulation(edges).chunk(2, -1)
    message = scale * (here.unsqueeze(2) + there.unsqueeze(1)) + shift
    # Around the mean of the stream: a difference of squares loses all digits of a small one.
    mean = message.mean(2)
    variance = (message - mean.unsqueeze(2)).square().mean(2)  # faster than torch's own
    return mean, variance, message.amin(2), message.amax(2)


def _mean(stream: Stream, near: Tensor, far: Tensor) -> Tensor:
    """Mean into each node, `(group, into, width)`, without messages: all is linear in the edges."""
    scale, shift = stream.modulation(stream.edges.mean(2)).chunk(2, -1)
    there = far[stream.out_of]
    width = there.shape[-1]
    # One large product for each group, instead of one for each node.
    flat = stream.edges.transpose(2, 3).flatten(1, 2) @ (there / there.shape[1])
    products = torch.unflatten(flat, 1, (-1, stream.edges.shape[-1]))
    weight = stream.modulation.weight.to(there)[:, :width]
    of_no_edge = stream.modulation(there.new_zeros(stream.edges.shape[-1]))[:width]
    from_there = (products * weight).sum(2) + of_no_edge * there.mean(1, keepdim=True)
    result: Tensor = scale * near[stream.into] + shift + from_there
    return result
