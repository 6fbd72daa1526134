"""Steps whose tensors have places that do not change, as in a CUDA graph, are the same steps."""

from copy import copy
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from meta_train.estimators.evolution_strategies import NRES, PES
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.family import family_of
from meta_train.unroll import unroll as module
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.recorder import Batches
from meta_train.unroll.runs import mapped
from meta_train.unroll.stacked import Stacked
from ngopt.rules import Adam, MatrixGNN
from tests.meta_train.small_tasks import Descent, Network, equal, seeded

OPTIONS = [
    UnrollOptions(lr=0.1),
    UnrollOptions(lr=0.1, average=0.5),
    UnrollOptions(lr=0.1, measure="same"),
    UnrollOptions(lr=0.1, measure="held_out"),
    UnrollOptions(lr=0.01, looks="due"),
]


def estimates(kind, options, device="cpu"):
    due = options.looks == "due"
    rule = MatrixGNN(width=4, rounds=1, context_every=2) if due else Descent()
    estimator = kind(Stacked(rule.to(device), options), MetaLoss(), 3, sigma=0.1)
    particles = estimator.begin(Network().to(torch.device(device)), 4, seeded())
    for _ in range(3):
        gradient, losses, diverged, particles = estimator.estimate(particles)
        yield {"gradient": gradient, "losses": losses, "runs": particles.runs.tensors()}
        assert not diverged


@pytest.mark.parametrize("kind", [PES, NRES])
@pytest.mark.parametrize("options", OPTIONS, ids=["next", "average", "same", "held out", "due"])
def test_recorded_steps_are_the_same(monkeypatch, kind, options):
    eager = list(estimates(kind, options))
    monkeypatch.setattr(module, "captures", lambda device: True)
    recorded = list(estimates(kind, options))
    assert all(equal(mine, theirs) for mine, theirs in zip(eager, recorded, strict=True))
    assert not equal(eager[0]["runs"], eager[1]["runs"])


def test_runs_that_were_returned_do_not_change(monkeypatch):
    monkeypatch.setattr(module, "captures", lambda device: True)
    estimator = NRES(Stacked(Descent(), OPTIONS[0]), MetaLoss(), 3)
    first = estimator.estimate(estimator.begin(Network(), 4, seeded())).particles
    before = {name: tensor.clone() for name, tensor in first.runs.parameters.items()}
    estimator.estimate(first)
    assert equal(first.runs.parameters, before)


def test_another_number_of_runs_is_recorded_anew(monkeypatch):
    monkeypatch.setattr(module, "captures", lambda device: True)
    estimator, task = NRES(Stacked(Descent(), OPTIONS[0]), MetaLoss(), 3), Network()
    for problems in (4, 2):
        losses = estimator.estimate(estimator.begin(task, problems, seeded())).losses
        assert len(losses) == 2 * problems


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=["next", "average", "same", "held out", "due"])
def test_cuda_graphs_are_the_same_steps(options):
    for mine, theirs in zip(
        estimates(NRES, options), estimates(NRES, options, "cuda"), strict=True
    ):
        torch.testing.assert_close(theirs["losses"].cpu(), mine["losses"], rtol=1e-6, atol=1e-9)


class Log(TorchDispatchMode):
    """Remembers operations that make the host wait for a device, or a device for the host."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        leaves = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        devices = {tensor.device.type for tensor in leaves if tensor.dim() or "copy" in name}
        if len(devices) > 1 or "_local_scalar" in name or "aten.lift" in name:
            self.found.add(name)
        return result


def matrix_gnn():
    return MatrixGNN(width=4, graph_sizes=True, context_every=8)


@pytest.mark.parametrize(
    ("family", "rule"),
    [
        ("mlp:width=8,depth=1,norm=layer", matrix_gnn),
        ("convnet:width=4,depth=2,norm=batch", Adam),
        ("transformer_lm:width=8,depth=1,heads=2", Adam),
        ("rnn_lm:width=8,cell=gru", matrix_gnn),
        ("residual:width=4,depth=1", matrix_gnn),
        ("autoencoder:width=8,depth=1", Adam),
    ],
)
def test_a_step_waits_for_no_device(family, rule):
    def there(tensor):
        return torch.empty_like(tensor, device="meta")

    task = family_of(family).sample(seeded())
    unroll = Stacked(rule(), OPTIONS[1])
    with torch.no_grad():
        runs = unroll.begin(task, 2, seeded(), copies=2)
        drawn, measured, seed = unroll._batches(runs)
        batches = Batches(tuple(map(there, drawn)), tuple(map(there, measured)), seed)
        runs = runs.with_tensors(mapped(there, runs.tensors()))
        runs = replace(runs, task=copy(task))
        runs.task.device = torch.device("meta")
        own = chain(unroll.rule.named_parameters(), unroll.rule.named_buffers())
        theta = {name: there(tensor.expand(4, *tensor.shape)) for name, tensor in own}
        for fresh in (True, False):
            unroll._recorded(runs, batches, theta, fresh)  # Constants are copied once.
            with Log() as log:
                unroll._recorded(runs, batches, theta, fresh)
            assert log.found == set()
