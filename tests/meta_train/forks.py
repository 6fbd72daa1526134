"""Several processes as torchrun would start them, but forks of the test's: they start at once."""

import os
import socket
from multiprocessing import get_context

import torch

from meta_train.distributed import world
from meta_train.errors import MetaTrainError

PATIENCE = 60
"""Seconds after which a process counts as hanging."""


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _process(work, rank, size, port, results):
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    try:
        result = work(rank)
    except (MetaTrainError, SystemExit) as error:
        result = str(error)
    assert not torch.distributed.is_initialized()
    results.put((rank, result))


def run(work, size=2):
    """Let each process work on what it is given of the world; see :func:`forked`."""

    def joined(_):
        with world("cpu") as processes:
            return work(processes)

    return forked(joined, size)


def forked(work, size=2):
    """Let each process work on its rank.

    Returns the exit codes, and results by rank of the processes that came to their end.
    """
    fork = get_context("fork")
    results, port = fork.Queue(), _free_port()
    processes = [
        fork.Process(target=_process, args=(work, rank, size, port, results))
        for rank in range(size)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        codes = [process.exitcode for process in processes]
        assert None not in codes, "a process hangs"
        return codes, dict(results.get(timeout=PATIENCE) for _ in range(codes.count(0)))
    finally:
        for process in processes:
            process.kill()
            process.join()
