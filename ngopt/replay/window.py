"""Where the numbers of a tensor lie: in a storage, from an offset on, with strides."""

import math
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Window:
    """A strided view of a storage.

    Args:
        storage: number of the storage in its recording.
        offset: of the first entry, in bytes.
        shape: number of entries in each dimension.
        stride: steps from entry to entry in each dimension, in entries.
        dtype: of the entries.
    """

    storage: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def numel(self) -> int:
        """Number of entries.

        >>> Window(0, 0, (2, 3), (3, 1), torch.float32).numel()
        6
        """
        return math.prod(self.shape)

    def dense(self) -> bool:
        """Whether it goes through all entries from the first to the last, in any order.

        >>> Window(0, 0, (2, 3), (1, 2), torch.float32).dense()
        True
        >>> Window(0, 0, (2, 3), (0, 1), torch.float32).dense()
        False
        """
        count = 1
        for step, size in sorted(zip(self.stride, self.shape, strict=True)):
            if size != 1:
                if step != count:
                    return False
                count *= size
        return True

    def spread(self, shape: tuple[int, ...]) -> "Window":
        """The window broadcast to a shape, without copying anything.

        >>> Window(0, 0, (3, 1), (1, 1), torch.float32).spread((2, 3, 4)).stride
        (0, 1, 0)
        """
        missing = len(shape) - len(self.shape)
        sizes = (1,) * missing + self.shape
        strides = (0,) * missing + self.stride
        stride = tuple(0 if size == 1 else step for size, step in zip(sizes, strides, strict=True))
        return replace(self, shape=shape, stride=stride)


def simplified(windows: list[Window]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Fewest dimensions in which windows of one shape can be gone through together.

    Dimensions of one entry go, the others are sorted by the strides of the first window, and
    neighbours that all windows step through evenly become one.

    Returns:
        The sizes, at least one, and for each window its strides.

    >>> flat = Window(0, 0, (2, 3), (3, 1), torch.float32)
    >>> simplified([flat, replace(flat, storage=1)])
    ((6,), [(1,), (1,)])
    >>> simplified([flat, replace(flat, stride=(1, 2))])
    ((2, 3), [(3, 1), (1, 2)])
    """
    steps = list(zip(*(window.stride for window in windows), strict=True))
    dims = [(size, step) for size, step in zip(windows[0].shape, steps, strict=True) if size != 1]
    dims.sort(key=lambda dim: -dim[1][0])
    joined: list[tuple[int, tuple[int, ...]]] = []
    for size, step in dims:
        if joined:
            outer, large = joined[-1]
            if all(size * small == big for small, big in zip(step, large, strict=True)):
                joined[-1] = (outer * size, step)
                continue
        joined.append((size, step))
    joined = joined or [(1, (0,) * len(windows))]
    strides = [tuple(step[n] for _, step in joined) for n in range(len(windows))]
    return tuple(size for size, _ in joined), strides
