"""Inner steps as CUDA graphs: launched at once, however many operations they have."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from meta_train.tasks.task import Batch, Tensors
from meta_train.unroll.runs import Runs, mapped

WARM_UP = 1
"""Number of steps before the recorded one, in which libraries set themselves up."""


class Batches(NamedTuple):
    """What is drawn for a step.

    Args:
        next: the batch of the next gradients.
        measured: the batch on which losses are measured, if it is another.
        seed: for what is random inside the models.
    """

    next: Batch
    measured: Batch
    seed: int


Step = Callable[[Runs, Batches, Mapping[str, Tensor], bool], tuple[Runs, Tensor]]
"""Of the runs, batches, theta and whether the rule looks: their new state, and losses."""


def captures(device: torch.device) -> bool:
    """Whether steps are recorded on a device: on a GPU, if no derivatives are asked for."""
    return device.type == "cuda" and not torch.is_grad_enabled()


class Recorder:
    """Replays the steps of all runs of one task. Their tensors have places that do not change.

    Args:
        step: a pure function, which draws nothing and waits for no device.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._runs: dict[str, Any] = {}
        self._theta: Tensors = {}
        self._batches: Batches | None = None
        self._losses: Tensor | None = None
        self._replays: dict[bool, Callable[[], None]] = {}
        self._pool: Any = None

    def fits(self, runs: Runs, theta: Mapping[str, Tensor]) -> bool:
        """Whether runs and theta have the shapes of those before."""
        given, mine = (
            tree_leaves((runs.tensors(), dict(theta))),
            tree_leaves((self._runs, self._theta)),
        )
        return [t.shape for t in given] == [t.shape for t in mine]

    def load(self, runs: Runs, theta: Mapping[str, Tensor]) -> None:
        """Copy runs and theta to their places."""
        if not self._runs:
            self._runs = mapped(torch.clone, runs.tensors())
            self._theta = mapped(torch.clone, dict(theta))
        else:
            _write(self._runs, runs.tensors())
            _write(self._theta, dict(theta))

    def result(self, runs: Runs) -> Runs:
        """Where the runs stand now, in memory of their own."""
        return runs.with_tensors(mapped(torch.clone, self._runs))

    def step(self, runs: Runs, batches: Batches, fresh: bool) -> Tensor:
        """Do one step.

        Args:
            runs: the runs, of which only what is no tensor is used.
            batches: for the step.
            fresh: whether the rule looks at the whole model.

        Returns:
            Losses after it, `(runs,)`.
        """
        drawn, measured, seed = batches
        if self._batches is None:
            clones = [tuple(tensor.clone() for tensor in part) for part in (drawn, measured)]
            self._batches = Batches(clones[0], clones[1], seed)
        else:
            _write(self._batches[:2], (drawn, measured))
        if fresh not in self._replays:
            self._replays[fresh] = self._record(runs, fresh)
        if runs.losses.is_cuda:
            torch.cuda.manual_seed(seed)
        self._replays[fresh]()
        assert self._losses is not None
        return self._losses.clone()

    def _record(self, runs: Runs, fresh: bool) -> Callable[[], None]:
        assert self._batches is not None
        batches, given = self._batches, runs.with_tensors(self._runs)

        def move() -> None:
            after, losses = self._step(given, batches, self._theta, fresh)
            _write(self._runs, after.tensors())
            assert self._losses is not None
            self._losses.copy_(losses)

        if self._losses is None:
            self._losses = torch.zeros_like(runs.losses)
        if runs.losses.device.type != "cuda":
            return move
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._step(given, batches, self._theta, fresh)
        torch.cuda.current_stream().wait_stream(aside)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            move()
        return graph.replay


def _write(places: Any, values: Any) -> None:
    """Copy tensors to the places of others, in nested dicts or tuples of the same names."""
    pairs = list(_pairs(places, values))
    torch._foreach_copy_([place for place, _ in pairs], [value for _, value in pairs])


def _pairs(places: Any, values: Any) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(places, Tensor):
        yield places, values
    else:
        keys = places if isinstance(places, dict) else range(len(places))
        for key in keys:
            yield from _pairs(places[key], values[key])
