"""Matrices and graphs as small pictures, for boards that show them while a run goes on."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ngopt.graph.draw import draw
from ngopt.graph.neural_graph import NeuralGraph

DIVERGING = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))
"""Colours from the most negative number over 0 to the most positive: blue, white, red."""

SEQUENTIAL = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colours from 0 to the largest number: dark violet, green, yellow."""

NOT_FINITE = (128, 128, 128)
LONGEST, LARGEST = 2**14, 2**24
"""Longest side and largest area of the picture of a graph, in pixels."""

LEGIBLE = 60
"""Pixels per inch at which the picture of a graph can still be read."""


def pooled(matrix: Tensor, limit: int) -> Tensor:
    """Make a large matrix small: the mean over blocks of neighbouring entries.

    Args:
        matrix: `(rows, columns)`, of floating numbers.
        limit: how many rows and columns there may be.

    Returns:
        `(min(rows, limit), min(columns, limit))`; the matrix itself if it is small.

    >>> pooled(torch.tensor([[1.0, 3.0, 5.0, 7.0]]), 2)
    tensor([[2., 6.]])
    """
    rows, columns = matrix.shape
    if max(rows, columns) <= limit:
        return matrix
    result: Tensor = adaptive_avg_pool2d(matrix[None], (min(rows, limit), min(columns, limit)))[0]
    return result


def as_image(
    matrix: Tensor,
    *,
    diverging: bool = False,
    bound: float | None = None,
    limit: int = 256,
    at_least: int = 128,
) -> Tensor:
    """Colour a matrix.

    Args:
        matrix: `(rows, columns)`, of any real dtype, on any device.
        diverging: whether numbers below 0 have colours of their own (blue, where those above 0 are
            red and 0 is white); if not, they look like 0 (violet; the largest is yellow).
        bound: the magnitude that has the strongest colour, by default the largest in the matrix.
        limit: a longer side is averaged down to this many pixels.
        at_least: entries are repeated until the longer side has about this many pixels.

    Returns:
        The picture `(3, height, width)`, of dtype uint8, on the CPU. Numbers that are not finite,
        and all averages over them, are grey.

    Example:
        >>> as_image(torch.tensor([[-2.0, 0.0, 2.0]]), diverging=True, at_least=3)[:, 0].T
        tensor([[ 33, 102, 172],
                [247, 247, 247],
                [178,  24,  43]], dtype=torch.uint8)
    """
    small = pooled(matrix.detach().float(), limit).cpu()
    finite = small.isfinite()
    known = torch.where(finite, small, 0.0)
    if bound is None:
        bound = float(known.abs().max()) if known.numel() else 0.0
    share = known / bound if bound > 0 else torch.zeros_like(known)
    place = (share + 1) / 2 if diverging else share
    colours = torch.tensor(DIVERGING if diverging else SEQUENTIAL, dtype=torch.float32)
    position = place.clamp(0, 1) * (len(colours) - 1)
    below = position.floor().long().clamp(max=len(colours) - 2)
    mixed = torch.lerp(colours[below], colours[below + 1], (position - below)[..., None])
    painted = torch.where(finite[..., None], mixed, torch.tensor(NOT_FINITE, dtype=torch.float32))
    picture = painted.round().to(torch.uint8).permute(2, 0, 1)
    times = max(1, at_least // max(1, *small.shape))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)


def graph_image(graph: NeuralGraph) -> Tensor | None:
    """Draw a graph, as :func:`ngopt.graph.draw.draw` does.

    Returns:
        The picture `(3, height, width)`, of dtype uint8; None without matplotlib, or if it would
        be too large to be looked at.
    """
    if not find_spec("matplotlib"):
        return None
    figure = draw(graph).get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    figure.set_dpi(min(figure.dpi, LONGEST / max(width, height), (LARGEST / width / height) ** 0.5))
    if figure.dpi < LEGIBLE:
        return None
    return figure_image(figure)


def figure_image(figure: Any) -> Tensor:
    """Paint a figure of matplotlib.

    Returns:
        The picture `(3, height, width)`, of dtype uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)  # parts of it are untyped
    pixels, (columns, rows) = canvas.print_to_buffer()
    rgba = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(rows, columns, 4)
    return rgba[..., :3].permute(2, 0, 1).contiguous()
