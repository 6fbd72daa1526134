"""The same small trials for several optimizers: does what users do with one work?

Each trial gets a function that makes an optimizer of given parameters, and fails or does not.
"""

import copy
import io
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ngopt import NeuralGraphOptimizer

Make: TypeAlias = Callable[[Iterable[Any]], Optimizer]
Trial: TypeAlias = Callable[[Make], None]

TRIALS: dict[str, Trial] = {}


def makers(pylo: Path | None) -> dict[str, Make]:
    """The optimizers that are tried: ours, AdamW, and PyLO's if its folder is given.

    Ours and AdamW have no weight decay, with which parameters without gradients move, too.
    """
    found: dict[str, Make] = {
        "ngopt": partial(NeuralGraphOptimizer, weight_decay=0.0),
        "AdamW": partial(torch.optim.AdamW, weight_decay=0.0),
    }
    return found if pylo is None else {**found, "PyLO": _pylo(pylo)}


def _pylo(folder: Path) -> Make:
    """Its `AdafacLO_naive` (small_fc_lopt), with random weights instead of downloaded ones."""
    sys.path.insert(0, str(folder))
    from pylo.models.Meta_MLP import MetaMLP
    from pylo.optim.AdafacLO_naive import AdafacLO_naive

    def made(cls: Any, key: str) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls(input_size=39, hidden_size=32, hidden_layers=1)

    MetaMLP.from_pretrained = classmethod(made)
    return AdafacLO_naive


def outcomes(contestants: Mapping[str, Make]) -> dict[str, dict[str, str]]:
    """By trial and by contestant, `yes` or why not."""
    return {
        name: {who: outcome(run, make) for who, make in contestants.items()}
        for name, run in TRIALS.items()
    }


def outcome(run: Trial, make: Make) -> str:
    """`yes`, or why not."""
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(make)
    except Exception as error:  # noqa: BLE001, another optimizer may raise anything
        said = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return f"no: {kind}{said[:100]}"
    return "yes"


def trial(name: str) -> Callable[[Trial], Trial]:
    """Add a trial under the name that the page shows."""
    return lambda function: TRIALS.setdefault(name, function)


def check(holds: Any, otherwise: str) -> None:
    """Fail with a reason unless something holds."""
    if not holds:
        raise AssertionError(otherwise)


class Run:
    """A small net in training.

    Args:
        make: makes the optimizer.
        steps: that are taken at once.
        dtype: of the parameters.
    """

    def __init__(self, make: Make, steps: int = 3, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
        self.model, self.seen = nn.Sequential(*layers).to(dtype), 0
        self.optimizer = make(self.model.parameters())
        self.train(steps)

    def backward(self) -> Tensor:
        """Leave gradients of the next batch, and return its loss."""
        x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(self.seen))
        self.seen += 1
        self.model.zero_grad()
        loss: Tensor = self.model(x.to(self.model[0].weight.dtype)).square().mean()
        loss.backward()
        return loss.detach()

    def train(self, steps: int = 3) -> "Run":
        """Take some steps."""
        for _ in range(steps):
            self.backward()
            self.optimizer.step()
        return self

    def values(self) -> list[Tensor]:
        """Copies of all parameters."""
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def moved(self, before: list[Tensor]) -> list[bool]:
        """Which parameters are not what they were before, to the last bit."""
        return [not torch.equal(*pair) for pair in zip(before, self.values(), strict=True)]

    def resumed(self, make: Make, state: Any) -> "Run":
        """A copy whose optimizer is a new one with the given state."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other.optimizer = make(other.model.parameters())
        other.optimizer.load_state_dict(state)
        return other


def _go_on_alike(one: Run, other: Run, steps: int = 3) -> None:
    """Fail unless two runs make the same further steps."""
    one.train(steps)
    check(not any(other.train(steps).moved(one.values())), "it goes on elsewhere")


def _of_dtype(make: Make, dtype: torch.dtype) -> None:
    run = Run(make, 0, dtype)
    before = run.values()
    moved, after = run.train().moved(before), run.values()
    check(all(tensor.dtype == dtype for tensor in after), "the dtype changes")
    check(all(moved), "some parameters do not move")
    check(all(tensor.isfinite().all() for tensor in after), "parameters are not finite")


TRIALS["bfloat16 parameters"] = lambda make: _of_dtype(make, torch.bfloat16)
TRIALS["float64 parameters"] = lambda make: _of_dtype(make, torch.float64)


@trial("frozen parameters stay, the others move")
def _frozen(make: Make) -> None:
    run = Run(make, 0)
    run.model[0].requires_grad_(False)
    before = run.values()
    run.optimizer = make(run.model.parameters())
    check(run.train().moved(before) == [False, False, True, True], "the wrong parameters move")


@trial("0-dim and empty parameters")
def _odd(make: Make) -> None:
    parameters = [nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(0, 3))]
    optimizer = make(parameters)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    check(parameters[0] < 1, "the 0-dim parameter does not go down its gradient")


@trial("a closure is called, and its loss returned")
def _closure(make: Make) -> None:
    run, calls = Run(make, 0), []

    def called() -> Tensor:
        calls.append(run.backward())
        return calls[-1]

    returned = run.optimizer.step(called)
    check(len(calls) == 1, f"it is called {len(calls)} times")
    check(returned is calls[0], "its loss is not returned")


@trial("a NaN gradient spoils no later step")
def _poison(make: Make) -> None:
    run = Run(make)
    run.backward()
    run.model[0].weight.grad.view(-1)[0] = float("nan")
    run.optimizer.step()
    run.train()
    check(all(tensor.isfinite().all() for tensor in run.values()), "parameters are NaN after it")


@trial("zero gradients at the start leave parameters alone")
def _zeros(make: Make) -> None:
    run = Run(make, 0)
    before = run.values()
    run.backward()
    run.optimizer.zero_grad(set_to_none=False)
    run.optimizer.step()
    check(not any(run.moved(before)), "parameters move")


@trial("a state from a file goes on to the last bit")
def _resume(make: Make) -> None:
    run, file = Run(make), io.BytesIO()
    torch.save(run.optimizer.state_dict(), file)
    file.seek(0)
    _go_on_alike(run, run.resumed(make, torch.load(file, weights_only=True)))


@trial("a bfloat16 model's state goes on to the last bit")
def _resume_bfloat16(make: Make) -> None:
    # The state may not be rounded to the dtype of the parameters.
    run = Run(make, dtype=torch.bfloat16)
    _go_on_alike(run, run.resumed(make, copy.deepcopy(run.optimizer.state_dict())), 10)


@trial("a state is loaded twice, and training goes on")
def _twice(make: Make) -> None:
    # As after going back to the best checkpoint.
    run = Run(make)
    for _ in range(2):
        run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
        run.train()


@trial("a deep copy and a pickle go on to the last bit")
def _copies(make: Make) -> None:
    for copier in (copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))):
        run = Run(make)
        _go_on_alike(run, copier(run))


@trial("add_param_group after some steps")
def _added(make: Make) -> None:
    run, more = Run(make), nn.Linear(2, 2)
    run.optimizer.add_param_group({"params": list(more.parameters())})
    before = more.weight.detach().clone(), more.bias.detach().clone()
    more(torch.ones(1, 2)).square().sum().backward()
    run.train()
    check(not any(map(torch.equal, before, (more.weight, more.bias))), "they do not move")


@trial("a scheduler that sets lr to 0 stops training")
def _scheduled(make: Make) -> None:
    run = Run(make, 0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda step: float(step < 1))
    run.train()
    scheduler.step()
    before = run.values()
    check(not any(run.train().moved(before)), "parameters move")


@trial("GradScaler skips a step that overflows")
def _scaler_skips(make: Make) -> None:
    run, scaler = Run(make, 0), torch.amp.GradScaler("cpu", init_scale=4.0)
    for bad in (True, False):
        before = run.values()
        run.optimizer.zero_grad()
        scaler.scale(run.model(torch.ones(1, 2, 3, 3)).square().mean()).backward()
        if bad:
            run.model[0].weight.grad.view(-1)[0] = float("inf")
        scaler.step(run.optimizer)
        scaler.update()
        check(any(run.moved(before)) != bad, "the wrong step is taken")


@trial("channels_last gives the same steps, and stays")
def _channels_last(make: Make) -> None:
    run, last = Run(make, 0), Run(make, 0)
    last.model.to(memory_format=torch.channels_last)
    last.optimizer = make(last.model.parameters())
    pairs = zip(run.train().values(), last.train().values(), strict=True)
    kept = last.model[0].weight.is_contiguous(memory_format=torch.channels_last)
    check(kept, "the memory format changes")
    same = all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in pairs)
    check(same, "the steps are others")
