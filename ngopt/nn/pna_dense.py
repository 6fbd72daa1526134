"""Messages aggregated bundle by bundle, by reductions over the dimensions of arrays."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ngopt.nn.pna import Messages, Stream, deviation


def aggregate(messages: Messages, aggregators: Sequence[str]) -> Tensor:
    """Aggregate messages; see :data:`ngopt.nn.pna.Aggregate`.

    No more than one stream's messages exist at a time, unless derivatives need them.
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
    rows = [_statistics(stream, near, far) for stream in messages.streams]
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


def _statistics(stream: Stream, near: Tensor, far: Tensor) -> tuple[Tensor, ...]:
    """Mean, variance, minimum and maximum into each node, each `(group, into, width)`."""
    scale, shift = stream.modulation(stream.edges).chunk(2, -1)
    pair = near[stream.into].unsqueeze(2) + far[stream.out_of].unsqueeze(1)
    message = scale * pair + shift
    # Around the mean of the stream: a difference of squares loses all digits of a small one.
    variance = message.var(2, correction=0)
    return message.mean(2), variance, message.amin(2), message.amax(2)


def _mean(stream: Stream, near: Tensor, far: Tensor) -> Tensor:
    """Mean into each node, `(group, into, width)`, without messages: all is linear in the edges."""
    scale, shift = stream.modulation(stream.edges.mean(2)).chunk(2, -1)
    there = far[stream.out_of]
    width = there.shape[-1]
    products = stream.edges.transpose(2, 3) @ there.unsqueeze(1) / there.shape[1]
    weight = stream.modulation.weight.to(there)[:, :width]
    of_no_edge = stream.modulation(there.new_zeros(stream.edges.shape[-1]))[:width]
    from_there = (products * weight).sum(2) + of_no_edge * there.mean(1, keepdim=True)
    result: Tensor = scale * near[stream.into] + shift + from_there
    return result
