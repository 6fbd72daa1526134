"""Interleave the work of several stacks on a GPU: each piece pauses, so that others go on."""

from collections.abc import Generator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
Work = Generator[None, None, T]
"""Does something, pauses now and then, and returns a result."""


def finished(work: Work[T]) -> T:
    """Do all of it at once, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result


def in_turns(works: Sequence[Work[T]], device: torch.device) -> list[T]:
    """Do several pieces of work, and return their results.

    On a GPU they take turns, each with a stream of its own: small kernels of several fill it better
    than those of one. Elsewhere one comes after the other.

    Args:
        works: pieces that do not depend on each other.
        device: on which they work.
    """
    if device.type != "cuda":
        return [finished(work) for work in works]
    streams = _streams(device, len(works))
    main = torch.cuda.current_stream(device)
    for stream in streams:
        stream.wait_stream(main)
    results: dict[int, T] = {}
    while len(results) < len(works):
        for number, work in enumerate(works):
            if number in results:
                continue
            with torch.cuda.stream(streams[number]):
                try:
                    next(work)
                except StopIteration as stop:
                    results[number] = stop.value
    # Also for memory: what was made in a stream may be used anew there once it is given back.
    torch.cuda.synchronize(device)
    return [results[number] for number in range(len(works))]


_known: dict[torch.device, list[torch.cuda.Stream]] = {}


def _streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    """The first so many streams of a device; always the same ones, for memory belongs to them."""
    streams = _known.setdefault(device, [])
    while len(streams) < count:
        streams.append(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    return streams[:count]
