"""Making the chunks of a zoo, in one process or several."""

import multiprocessing
import os
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm import tqdm

from meta_train.zoo.store import Zoo
from meta_train.zoo.writer import Chunk, ZooWriter


@dataclass(frozen=True, kw_only=True)
class MakingOptions:
    """Options that all zoos have.

    Args:
        validation: share of the runs to validate on.
        test: share of the runs to test on.
        seed: of everything random.
        chunk: networks that are made and kept at once.
        processes: how many work at the same time, each on one thread.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    validation: float = 0.1
    test: float = 0.3
    seed: int = 0
    chunk: int = 4
    processes: int = 1
    device: str = "auto"

    def plain(self) -> dict[str, Any]:
        """All that the zoo follows from, with defaults filled in."""
        free = ("folder", "processes", "device")
        return {name: value for name, value in asdict(self).items() if name not in free}


def make_zoo(
    writer: ZooWriter,
    make: Callable[[int], Chunk],
    categories: Mapping[str, Sequence[str]],
    each: int = 1,
    processes: int = 1,
    networks: int | None = None,
) -> Zoo:
    """Make the chunks that are missing, with a progress bar, and put all together.

    Every chunk is made on one thread, so that its numbers do not depend on how many there are.
    Several commands at once share the work: each takes missing chunks in an order of its own.

    Args:
        writer: of the zoo.
        make: makes a chunk of its number. For several processes it must be picklable.
        categories: names of the values of the columns that are labels.
        each: number of networks in a chunk, for the progress bar.
        processes: how many work at the same time.
        networks: in all, if the last chunk has fewer.
    """
    missing = writer.missing()
    total = writer.chunks * each if networks is None else networks
    progress = tqdm(
        total=total,
        initial=max(0, total - len(missing) * each),
        desc=writer.kind,
        unit="network",
        dynamic_ncols=True,
        disable=not missing,
    )
    random.Random(os.getpid()).shuffle(missing)
    with progress:
        if processes == 1:
            for number in missing:
                make_chunk(writer, make, number)
                progress.update(min(each, total - progress.n))
        else:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, spawn) as pool:
                works = [pool.submit(make_chunk, writer, make, number) for number in missing]
                try:
                    for work in as_completed(works):
                        work.result()
                        progress.update(min(each, total - progress.n))
                finally:
                    pool.shutdown(wait=True, cancel_futures=True)
    return writer.finish(categories)


def make_chunk(writer: ZooWriter, make: Callable[[int], Chunk], number: int) -> None:
    """Make a chunk on one thread and keep it, unless another process has made it."""
    if writer.has(number):
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            chunk = make(number)
        writer.write(number, chunk)
    finally:
        torch.set_num_threads(threads)
