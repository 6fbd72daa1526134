"""The same small trials for several optimizers: does what users do with one work?

Each probe gets a function that makes an optimizer of given parameters, and fails or does not.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Make: TypeAlias = Callable[[Iterable[Any]], Optimizer]
Probe: TypeAlias = Callable[[Make], None]

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    pickle.PickleError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a probe that fails ends with."""

PROBES: dict[str, Probe] = {}


def probe(name: str) -> Callable[[Probe], Probe]:
    """Add a probe under the name that the page shows."""

    def add(function: Probe) -> Probe:
        PROBES[name] = function
        return function

    return add


def outcome(run: Probe, make: Make) -> str:
    """`yes`, or why not."""
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(make)
    except FAILURES as error:
        said = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return f"no: {kind}{said[:100]}"
    return "yes"


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A convolution and a linear layer."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    return nn.Sequential(*layers).to(dtype)


def backward(model: nn.Module, seed: int = 0) -> Tensor:
    """Leave gradients of one batch."""
    parameter = next(model.parameters())
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
    model.zero_grad()
    loss: Tensor = model(x.to(parameter.dtype)).square().mean()
    loss.backward()
    return loss.detach()


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3, start: int = 0) -> None:
    """Take some steps."""
    for seed in range(start, start + steps):
        backward(model, seed)
        optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def check(holds: Any, otherwise: str) -> None:
    """Fail with a reason unless something holds."""
    if not holds:
        raise AssertionError(otherwise)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether tensors are equal to the last bit."""
    return all(map(torch.equal, first, second))


def started(
    make: Make, dtype: torch.dtype = torch.float32, steps: int = 3
) -> tuple[nn.Module, Optimizer]:
    """A net after some steps, and its optimizer."""
    model = net(dtype)
    optimizer = make(model.parameters())
    train(model, optimizer, steps)
    return model, optimizer


def go_on_alike(
    one: tuple[nn.Module, Optimizer], other: tuple[nn.Module, Optimizer], steps: int = 3
) -> None:
    """Fail unless two nets and their optimizers make the same further steps."""
    for model, optimizer in (one, other):
        train(model, optimizer, steps, start=3)
    check(same(values(one[0]), values(other[0])), "it goes on elsewhere")


def _of_dtype(make: Make, dtype: torch.dtype) -> None:
    before, after = values(net(dtype)), values(started(make, dtype)[0])
    check(all(tensor.dtype == dtype for tensor in after), "the dtype changes")
    check(not any(map(torch.equal, before, after)), "some parameters do not move")
    check(all(tensor.isfinite().all() for tensor in after), "parameters are not finite")


PROBES["bfloat16 parameters"] = partial(_of_dtype, dtype=torch.bfloat16)
PROBES["float64 parameters"] = partial(_of_dtype, dtype=torch.float64)


@probe("frozen parameters stay, the others move")
def _frozen(make: Make) -> None:
    model = net()
    model[0].requires_grad_(False)
    before = values(model)
    train(model, make(model.parameters()))
    moved = [not torch.equal(*pair) for pair in zip(before, values(model), strict=True)]
    check(moved == [False, False, True, True], "the wrong parameters move")


@probe("0-dim and empty parameters")
def _odd(make: Make) -> None:
    parameters = [nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(0, 3))]
    optimizer = make(parameters)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    check(parameters[0] < 1, "the 0-dim parameter does not go down its gradient")


@probe("a closure is called, and its loss returned")
def _closure(make: Make) -> None:
    model, calls = net(), []

    def called() -> Tensor:
        calls.append(backward(model))
        return calls[-1]

    returned = make(model.parameters()).step(called)
    check(len(calls) == 1, f"it is called {len(calls)} times")
    check(returned is calls[0], "its loss is not returned")


@probe("a NaN gradient spoils no later step")
def _poison(make: Make) -> None:
    model, optimizer = started(make)
    backward(model)
    model[0].weight.grad.view(-1)[0] = float("nan")
    optimizer.step()
    train(model, optimizer)
    check(all(tensor.isfinite().all() for tensor in values(model)), "parameters are NaN after it")


@probe("zero gradients at the start leave parameters alone")
def _zeros(make: Make) -> None:
    model, optimizer = started(make, steps=0)
    before = values(model)
    backward(model)
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    check(same(before, values(model)), "parameters move")


@probe("a state from a file goes on to the last bit")
def _resume(make: Make) -> None:
    model, optimizer = started(make)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    resumed = make(other.parameters())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    go_on_alike((model, optimizer), (other, resumed))


@probe("a bfloat16 model's state goes on to the last bit")
def _resume_bfloat16(make: Make) -> None:
    # The state may not be rounded to the dtype of the parameters.
    model, optimizer = started(make, torch.bfloat16)
    other = copy.deepcopy(model)
    resumed = make(other.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    go_on_alike((model, optimizer), (other, resumed), 10)


@probe("a state is loaded twice, and training goes on")
def _twice(make: Make) -> None:
    # As after going back to the best checkpoint.
    model, optimizer = started(make)
    for _ in range(2):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(model, optimizer)


@probe("a deep copy and a pickle go on to the last bit")
def _copies(make: Make) -> None:
    for copier in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        pair = started(make)
        go_on_alike(pair, copier(pair))


@probe("add_param_group after some steps")
def _added(make: Make) -> None:
    more = nn.Linear(2, 2)
    model, optimizer = started(make)
    optimizer.add_param_group({"params": list(more.parameters())})
    before = values(more)
    more(torch.ones(1, 2)).square().sum().backward()
    train(model, optimizer)
    check(not any(map(torch.equal, before, values(more))), "they do not move")


@probe("a scheduler that sets lr to 0 stops training")
def _scheduled(make: Make) -> None:
    model, optimizer = started(make, steps=0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 1))
    train(model, optimizer)
    scheduler.step()
    before = values(model)
    train(model, optimizer)
    check(same(before, values(model)), "parameters move")


@probe("GradScaler skips a step that overflows")
def _scaler_skips(make: Make) -> None:
    model, optimizer = started(make, steps=0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for bad in (True, False):
        before = values(model)
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 2, 3, 3)).square().mean()).backward()
        if bad:
            model[0].weight.grad.view(-1)[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        check(same(before, values(model)) == bad, "the wrong step is taken")


@probe("channels_last gives the same steps, and stays")
def _channels_last(make: Make) -> None:
    model = net()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for each in (model, last):
        train(each, make(each.parameters()))
    kept = last[0].weight.is_contiguous(memory_format=torch.channels_last)
    check(kept, "the memory format changes")
    for one, other in zip(values(model), values(last), strict=True):
        check(torch.allclose(one, other, rtol=1e-3, atol=1e-4), "the steps are others")


def outcomes(makers: Mapping[str, Make]) -> dict[str, dict[str, str]]:
    """By probe and by contestant, `yes` or why not."""
    return {
        name: {who: outcome(run, make) for who, make in makers.items()}
        for name, run in PROBES.items()
    }
