"""Monitor: writes measures and pictures of a training run to TensorBoard."""

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import repeat
from os import PathLike
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ngopt.backends.dispatch import uncompiled
from ngopt.errors import OptionError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.monitor.adam_comparison import AdamComparison
from ngopt.monitor.diagnostics import Diagnostics, record_diagnostics
from ngopt.monitor.images import graph_image
from ngopt.monitor.measures import angle, change, sizes, totals
from ngopt.optim.annealing import Clock
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.optim.parameter_groups import name_all
from ngopt.optim.update import Options

SAMPLE = 2**16
"""Number of entries that a histogram looks at, at most about."""


TRAINING, OPTIMIZER = "1 training", "2 optimizer"
"""Groups of numbers that TensorBoard shows first, unfolded."""

TENSORS = {
    "relative_update": "3 relative update",
    "update_rms": "4 update RMS",
    "gradient_rms": "5 gradient RMS",
    "weight_rms": "6 weight RMS",
    "scale": "7 learned step size",
    "correction": "8 correction",
    "angle_to_adam": "9 angle to Adam",
}
"""Groups of numbers of single tensors, by what they are."""


class Monitor:
    """Writes what an optimizer does to a folder that TensorBoard shows.

    Every so many steps: what :meth:`log` is given, such as the loss; then, in one group, the
    learning rate, the norms of all weights, gradients and updates, and the update's norm over the
    weights'. Of a :class:`~ngopt.NeuralGraphOptimizer` also the graph, as text and picture, and,
    but for the first step, what its rule decided inside: the mean factor of steps and the
    correction of directions. With `per_tensor=True`, the same of each tensor, from the first step
    on. Then run `tensorboard --logdir FOLDER`.

    Monitors of several optimizers, torch's own among them, can write to the same folder: their
    curves are laid over each other, under the name of each.

    The run is the same to the last bit with and without a monitor. Only steps that are written cost
    anything: a copy of the weights while they last, and a wait for the device.

    In a run of several processes, make one monitor, in one of them.

    Args:
        optimizer: any optimizer of torch's interface, before or during its use.
        folder: where to write, in a folder of the run's name; created if need be.
        every: steps from one that is written to the next; the first is written.
        pictures: histograms and pictures come with every so many of the written steps.
        name: of the run, by default that of the optimizer's rule or class, such as `Adam`.
        per_tensor: whether to write numbers, histograms and pictures of each tensor too: for a
            ResNet-18, about 400 curves and 62 histograms.
        angle_to_adam: whether to follow the run with Adam (lr of the same group, no weight decay)
            and write the angle, in degrees, between both steps.
            Its moments, which no checkpoint holds, take 8 bytes and some time per weight and step.
        first_step: number of the next step, in a run that is resumed; what was written of it and
            of later ones is taken back.

    Raises:
        OptionError: if TensorBoard is not installed, an option makes no sense, or parameters are
            sharded.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from ngopt import NeuralGraphOptimizer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = NeuralGraphOptimizer(model)
        >>> with TemporaryDirectory() as folder, Monitor(optimizer, folder, every=10) as monitor:
        ...     for _ in range(20):
        ...         optimizer.zero_grad()
        ...         loss = model(torch.ones(1, 2)).square().sum()
        ...         loss.backward()
        ...         optimizer.step()
        ...         monitor.log(loss=loss)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        folder: str | PathLike[str],
        *,
        every: int = 20,
        pictures: int = 10,
        name: str | None = None,
        per_tensor: bool = False,
        angle_to_adam: bool = False,
        first_step: int = 0,
    ) -> None:
        _check(optimizer, every=every, pictures=pictures)
        self._writer = _open(Path(folder) / (name or _name(optimizer)), first_step)
        # Also if nobody closes the monitor, down to the end of the program.
        self._finish = weakref.finalize(self, self._writer.close)
        self._every, self._pictures, self._per_tensor = every, pictures, per_tensor
        self._adam = AdamComparison() if angle_to_adam else None
        self._steps = first_step
        self._begun = False
        self._written: int | None = None
        self._copies: dict[str, Tensor] = {}
        self._seen: Diagnostics | None = None
        self._graph: NeuralGraph | None = None
        self._undrawn: NeuralGraph | None = None
        self._watching = ExitStack()
        self._hooks = (
            optimizer.register_step_pre_hook(_outside(self._before)),
            optimizer.register_step_post_hook(_outside(self._after)),
        )
        self._writer.add_text("optimizer", _described(optimizer), first_step)

    def log(self, **values: float | Tensor) -> None:
        """Write numbers, such as the loss, beside those of the last step, if that was written.

        Args:
            values: one-element tensors or numbers, by the name under which they are shown.
        """
        if self._written is not None:
            for name, value in values.items():
                number = value.item() if isinstance(value, Tensor) else value
                self._writer.add_scalar(f"{TRAINING}/{name}", number, self._written)

    def close(self) -> None:
        """Leave the optimizer alone from now on, and write what is left."""
        for hook in self._hooks:
            hook.remove()
        self._watching.close()
        self._draw_graph()
        self._written = None
        self._finish()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before(self, optimizer: Optimizer, *_: object) -> None:
        if self._steps % self._every == 0:
            self._copies = {name: p.detach().clone() for name, p, _ in _members(optimizer)}
            # A watched rule needs kernels of its own: the first step is slow enough already.
            watching = self._per_tensor or self._begun
            if watching and isinstance(optimizer, NeuralGraphOptimizer):
                self._seen = self._watching.enter_context(record_diagnostics(optimizer.rule))

    def _after(self, optimizer: Optimizer, *_: object) -> None:
        self._watching.close()
        self._begun = True
        step, self._steps = self._steps, self._steps + 1
        self._written = step if step % self._every == 0 else None
        if self._written is not None or self._adam is not None:
            self._follow(optimizer)
        self._copies, self._seen = {}, None

    def _follow(self, optimizer: Optimizer) -> None:
        after = {name: p.detach() for name, p, _ in _members(optimizer) if p.grad is not None}
        grads = {n: p.grad.to_dense() for n, p, _ in _members(optimizer) if p.grad is not None}
        adam = {} if self._adam is None else self._adam.step(after, grads, _options(optimizer))
        if self._written is None:
            return
        before = {name: copy for name, copy in self._copies.items() if name in after}
        numbers = {**_whole(optimizer), **totals(before, after, grads)}
        steps = change(before, after) if adam else {}
        if adam:
            numbers["angle_to_adam"] = angle(steps, {name: adam[name] for name in steps})
        if self._seen is not None:
            # TensorBoard sorts cards: those that an untrained rule leaves flat do not come first.
            numbers |= {f"rule_{tag}": value for tag, value in self._seen.totals().items()}
        written = {f"{OPTIMIZER}/{tag}": value for tag, value in numbers.items()}
        if self._per_tensor:
            each = sizes(before, after, grads)
            each |= {f"angle_to_adam/{n}": angle(step, adam[n]) for n, step in steps.items()}
            each |= self._seen.numbers() if self._seen is not None else {}
            written |= {_in_group(tag): value for tag, value in each.items()}
        self._write(written)
        if self._written // self._every % self._pictures == 0:
            self._paint(before)
        if isinstance(optimizer, NeuralGraphOptimizer):
            self._show_graph(optimizer.graph)

    def _write(self, numbers: Mapping[str, Tensor | float]) -> None:
        tensors = [value for value in numbers.values() if isinstance(value, Tensor)]
        # Brought over together, so that the device is waited for once.
        alike = [tensor.to(tensors[0].device, torch.float32) for tensor in tensors]
        known = iter(torch.stack(alike).tolist() if alike else [])
        for tag, value in numbers.items():
            number = next(known) if isinstance(value, Tensor) else value
            self._writer.add_scalar(tag, number, self._written)

    def _paint(self, before: Mapping[str, Tensor]) -> None:
        if self._per_tensor:
            for name, weight in before.items():
                self._histogram(f"weight/{name}", _sample(weight, weight.numel()))
            for tag, picture in self._seen.images().items() if self._seen else ():
                self._writer.add_image(tag, picture, self._written)
        elif before:
            entries = sum(weight.numel() for weight in before.values())
            samples = [_sample(weight, entries) for weight in before.values()]
            self._histogram("weights", torch.cat(samples))

    def _histogram(self, tag: str, sample: Tensor) -> None:
        if sample.numel():
            self._writer.add_histogram(tag, sample, self._written)

    def _show_graph(self, graph: NeuralGraph) -> None:
        """Write a new graph as text, and its picture at the next call: to draw takes seconds."""
        self._draw_graph()
        if graph == self._graph:
            return
        self._graph = graph
        if any(space.reason != "not traced" for space in graph.spaces.values()):
            self._writer.add_text("graph", indent(graph.summary(), "    "), self._written)
            self._undrawn = graph

    def _draw_graph(self) -> None:
        picture = None if self._undrawn is None else graph_image(self._undrawn)
        if picture is not None:
            self._writer.add_image("graph", picture, self._steps - 1)
        self._undrawn = None


def _outside(hook: Callable[..., None]) -> Any:
    """Keep a hook out of derivatives and of compiled steps."""
    return uncompiled(torch.no_grad()(hook))


def _check(optimizer: Optimizer, **intervals: int) -> None:
    for name, value in intervals.items():
        if value < 1:
            raise OptionError(f"Monitor got {name}={value}.\n  Give a number that is at least 1.")
    if any(hasattr(param, "device_mesh") for _, param, _ in _members(optimizer)):
        raise OptionError(
            "Monitor cannot follow parameters that are sharded over processes.\n  Watch a run "
            "with DistributedDataParallel instead, in one of its processes, or on one device."
        )


def _open(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes a while
    except ImportError as error:
        raise OptionError(
            "Monitor writes for TensorBoard, which is not installed.\n"
            '  Install it with: pip install "ngopt[monitor]"'
        ) from error
    return SummaryWriter(str(folder), purge_step=first_step or None, flush_secs=10)


def _name(optimizer: Optimizer) -> str:
    known = optimizer.rule if isinstance(optimizer, NeuralGraphOptimizer) else optimizer
    return type(known).__name__


def _in_group(tag: str) -> str:
    """Tag of a number of one tensor, such as `weight_rms/NAME`, in its numbered group."""
    kind, _, name = tag.partition("/")
    return f"{TENSORS[kind]}/{name}"


def _sample(weight: Tensor, entries: int) -> Tensor:
    """Its part, on the CPU, of about :data:`SAMPLE` of all entries, without those not finite."""
    sample = weight.flatten()[:: max(1, entries // SAMPLE)].float()
    return sample[sample.isfinite()].cpu()


def _members(optimizer: Optimizer) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    """All parameters that can be changed and have a shape: name, tensor, and group."""
    known = optimizer._names if isinstance(optimizer, NeuralGraphOptimizer) else None
    taken: list[str] = []
    for number, group in enumerate(optimizer.param_groups):
        given = zip(group.get("param_names", repeat(None)), group["params"], strict=False)
        names = name_all(list(given), {}, taken) if known is None else known[number]
        taken += names
        for name, param in zip(names, group["params"], strict=True):
            if param.requires_grad and not is_lazy(param):
                yield name, param, group


def _options(optimizer: Optimizer) -> dict[str, Options]:
    return {name: Options.of(group) for name, _, group in _members(optimizer)}


def _whole(optimizer: Optimizer) -> dict[str, float | Tensor]:
    rates = [Options.of(group).lr for group in optimizer.param_groups]
    one = len(rates) == 1
    numbers = {f"lr{'' if one else f'_{number}'}": rate for number, rate in enumerate(rates)}
    if isinstance(optimizer, NeuralGraphOptimizer):
        numbers["skipped_steps"] = optimizer.skipped_steps
    return numbers


def _described(optimizer: Optimizer) -> str:
    """Kind, rule and groups of an optimizer, in Markdown."""
    lines = [f"**{type(optimizer).__name__}**", ""]
    if isinstance(optimizer, NeuralGraphOptimizer):
        rule = optimizer.rule
        weights = sum(theta.numel() for theta in rule.parameters())
        lines += [f"rule {type(rule).__name__} of {weights:,} weights:", ""]
        lines += [indent(json.dumps(rule.config, indent=2), "    "), ""]
    for number, group in enumerate(optimizer.param_groups):
        options = ", ".join(
            f"{key} {value}"
            for key, value in group.items()
            if not key.startswith("param") and key not in Clock._fields
        )
        entries = sum(param.numel() for param in group["params"] if not is_lazy(param))
        tensors = len(group["params"])
        lines.append(f"* group {number}: {tensors} tensors, {entries:,} entries; {options}")
    return "\n".join(lines)
