"""Back end for any module: `higher` runs the models of a stack one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import Wrapped, innermost
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Batch, Task, Tensors
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.runs import Runs, mapped
from meta_train.unroll.unroll import Unroll
from ngopt.rules.rule import Rule

try:
    import higher
except ImportError:
    higher = None


class Modules(Unroll):
    """Trains stacks of models that `torch.vmap` cannot run; the rule still steps all runs at once.

    Such are models that change their buffers as they run, as batch normalisation does, and models
    whose control flow depends on values. Each run has buffers of its own, which only the batches
    that it is trained on change. Copies of a problem share all that is random inside of the model,
    such as dropout.

    The hooks of modules are not run, for `higher` does not copy them.

    Args:
        rule: whose theta is learned.
        options: how runs are trained and measured.

    Raises:
        MetaTrainError: if `higher` is not installed.
    """

    def __init__(self, rule: Rule, options: UnrollOptions | None = None) -> None:
        super().__init__(rule, options)
        if higher is None:
            raise MetaTrainError(
                "the back end `modules` needs the package higher, which is not installed.\n"
                "  Install it (pip install higher), or use the back end `stacked`."
            )
        self._models: WeakKeyDictionary[Task, _Model] = WeakKeyDictionary()

    def _gradients(self, runs: Runs, batch: Batch) -> Runs:
        model = self._model(runs.task)
        if not runs.buffers:
            runs = replace(runs, buffers=_stacked([model.buffers] * len(runs)))
        learned = any(tensor.requires_grad for tensor in runs.parameters.values())
        remember = torch.is_grad_enabled() and learned
        looks = []
        with torch.enable_grad():
            for weights, buffers, context, samples in _each(runs, batch):
                if not remember:
                    weights = {name: t.detach().requires_grad_() for name, t in weights.items()}
                loss, after = model(weights, buffers, context, samples)
                slopes = torch.autograd.grad(
                    loss, list(weights.values()), create_graph=remember, materialize_grads=True
                )
                gradients = dict(zip(weights, slopes, strict=True))
                looks.append({"gradients": gradients, "losses": loss, "buffers": after})
        model.forget()
        seen = _stacked(looks)
        return replace(runs, **(seen if remember else mapped(torch.detach, seen)))

    def _losses(self, runs: Runs, batch: Batch) -> Tensor:
        model = self._model(runs.task)
        losses = [model(*parts)[0] for parts in _each(runs, batch)]
        model.forget()
        return torch.stack(losses)

    def _model(self, task: Task) -> "_Model":
        if task not in self._models:
            self._models[task] = _Model(task)
        return self._models[task]


class _Model:
    """The loss of a task, as a function of buffers too.

    The module in the task is replaced by the functional copy that `higher` makes of it. Tasks
    without one have a loss that is a pure function.

    Args:
        task: the task; it is not changed.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._module: Any = None
        self.buffers: Tensors = {}
        inside = innermost(task)
        if isinstance(inside, ModelTask):
            self._module = higher.monkeypatch(inside.module, track_higher_grads=False)
            self._weights = self._module.fast_params
            self._task = _calling(task, self._module)
            self.buffers = dict(inside.module.named_buffers())

    def __call__(
        self, weights: Tensors, buffers: Tensors, context: Tensors, batch: Batch
    ) -> tuple[Tensor, Tensors]:
        """Return the loss, 0-dim, and the buffers after it."""
        if self._module is None:
            return self._task.loss(weights, context, batch), {}
        for name, tensor in buffers.items():
            path, _, last = name.rpartition(".")
            self._module.get_submodule(path)._buffers[last] = tensor.clone()
        loss = self._task.loss(weights, context, batch)
        return loss, dict(self._module.named_buffers())

    def forget(self) -> None:
        """Let go of the last weights, and with them of all the steps that led to them."""
        if self._module is not None:
            self._module.update_params(self._weights)


def _calling(task: Task, module: Any) -> Task:
    """Return a task whose model is the functional copy of its module."""
    if isinstance(task, Wrapped):
        return task.around(_calling(task.inner, module))
    task = copy(task)
    names = [name for name, _ in cast(ModelTask, task).module.named_parameters()]

    def outputs(parameters: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
        result: Tensor = module(*inputs, params=[parameters[name] for name in names])
        return result

    vars(task)["outputs"] = outputs
    return task


def _each(runs: Runs, batch: Batch) -> Iterator[tuple[Tensors, Tensors, Tensors, Batch]]:
    """Parameters, buffers, context and batch of one run after the other, each with its seed."""
    seed, problems = torch.initial_seed(), len(runs) // runs.copies
    trees = (runs.parameters, runs.buffers, runs.context)
    samples = zip(*batch, strict=True)
    parts = zip(*(_unstacked(tree, len(runs)) for tree in trees), samples, strict=True)
    for number, (parameters, buffers, context, sample) in enumerate(parts):
        torch.manual_seed((seed + number % problems) % 2**63)
        yield parameters, buffers, context, sample


def _unstacked(tensors: Tensors, runs: int) -> list[Tensors]:
    parts = {name: tensor.unbind() for name, tensor in tensors.items()}
    return [{name: part[number] for name, part in parts.items()} for number in range(runs)]


def _stacked(trees: Sequence[Any]) -> Any:
    return mapped(lambda *tensors: torch.stack(tensors), *trees)
