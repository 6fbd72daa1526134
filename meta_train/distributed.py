"""Several processes that meta-train together, as `torchrun` starts them."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed

from meta_train.errors import MetaTrainError

_GO_ON = "Start the same command again: it resumes from the last checkpoint, if there is one."


@dataclass
class World:
    """The processes of a run, seen from one of them.

    Args:
        rank: number of this process.
        size: number of processes.
        device: that this process computes on.
        grouped: whether the processes have found each other; a single one need not.
    """

    rank: int
    size: int
    device: torch.device
    grouped: bool

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def add(self, rows: Tensor) -> Tensor:
        """Sum a tensor of one shape over all processes.

        Raises:
            MetaTrainError: if another process is gone.
        """
        if not self.grouped:
            return rows
        total = rows.clone()
        with self._together():
            distributed.all_reduce(total)
        return total

    def gather(self, item: Any) -> list[Any] | None:
        """Collect something from every process on the main one.

        Args:
            item: plain data and tensors, nested.

        Returns:
            The items in order of rank, tensors on the CPU; None on all but the main process.

        Raises:
            MetaTrainError: if another process is gone.
        """
        item = _on_cpu(item)
        if not self.grouped:
            return [item]
        items = [None] * self.size if self.is_main else None
        with self._together():
            distributed.gather_object(item, items)
        return items

    def broadcast(self, item: Any) -> Any:
        """Hand something from the main process to all.

        Args:
            item: plain data and tensors, nested; what the others give is ignored.

        Returns:
            The main process's item, tensors on the CPU.

        Raises:
            MetaTrainError: if another process is gone.
        """
        item = _on_cpu(item)
        if not self.grouped:
            return item
        items = [item if self.is_main else None]
        with self._together():
            distributed.broadcast_object_list(items)
        return items[0]

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises:
            MetaTrainError: if another process is gone.
        """
        self.add(torch.zeros(1))

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise MetaTrainError(
                f"process {self.rank} of {self.size} cannot go on, since another one is gone "
                f"({error}).\n  {_GO_ON}"
            ) from error


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """Join the processes that `torchrun` has started; alone if it was not used.

    Args:
        device: `auto` for a GPU if there is one, else the CPU; or one that torch knows, such as
            `cpu`, `cuda` or `cuda:1`. Of several processes on a machine each takes the GPU of its
            own number.

    Raises:
        MetaTrainError: if there is no such device, or no GPU for each process, or the others cannot
            be found.
        SystemExit: inside, if the process is told to stop (SIGTERM), which `torchrun` does when
            another one is gone.
    """
    together = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", 0)) if together else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not together:
        yield World(0, 1, chosen, grouped=False)
        return
    # torchrun ends all processes with SIGTERM when one is gone: they are to say why they stop.
    before = signal.signal(signal.SIGTERM, _told_to_stop)
    try:
        processes = _joined(chosen)
        yield processes
        processes.wait()  # what the last one is still doing may need the others
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def _joined(device: torch.device) -> World:
    on_gpu = device.type == "cuda"
    # What is not on the GPU, such as gathered items, goes through gloo.
    backend, own = ("cpu:gloo,cuda:nccl", device) if on_gpu else ("gloo", None)
    try:
        distributed.init_process_group(backend, device_id=own)
    except (RuntimeError, ValueError) as error:
        raise MetaTrainError(
            f"cannot find the other processes ({error}).\n"
            "  Start all of them with torchrun, or python -m torch.distributed.run."
        ) from error
    return World(distributed.get_rank(), distributed.get_world_size(), device, grouped=True)


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MetaTrainError(
            f"there is no device `{name}`.\n  Use auto, cpu, cuda or cuda:1."
        ) from error
    if device.type != "cuda":
        return device
    number = local_rank if local_rank is not None else device.index or 0
    if number >= torch.cuda.device_count():
        raise MetaTrainError(
            f"GPU number {number} was asked for, but this machine has "
            f"{torch.cuda.device_count()}.\n  Start at most one process for each GPU "
            "(torchrun --nproc-per-node), or use --device cpu."
        )
    return torch.device("cuda", number)


def _on_cpu(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.detach().cpu()
    if isinstance(item, dict):
        return {key: _on_cpu(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(_on_cpu(value) for value in item)
    return item


def _told_to_stop(*_: Any) -> NoReturn:
    sys.exit(f"Told to stop, most likely since another process is gone (see above).\n  {_GO_ON}")
