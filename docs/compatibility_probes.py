"""The same small trials for several optimizers: does what users do with one work?

Each probe gets a function that makes an optimizer of given parameters, and fails or does not.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
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


def _of_dtype(make: Make, dtype: torch.dtype) -> None:
    model = net(dtype)
    before = values(model)
    train(model, make(model.parameters()))
    after = values(model)
    check(all(tensor.dtype == dtype for tensor in after), "the dtype changes")
    check(not any(map(torch.equal, before, after)), "some parameters do not move")
    check(all(tensor.isfinite().all() for tensor in after), "parameters are not finite")


@probe("bfloat16 parameters")
def bfloat16(make: Make) -> None:
    """Dtypes stay, and all move."""
    _of_dtype(make, torch.bfloat16)


@probe("float64 parameters")
def float64(make: Make) -> None:
    """Dtypes stay, and all move."""
    _of_dtype(make, torch.float64)


@probe("frozen parameters stay, the others move")
def frozen(make: Make) -> None:
    """Half of the net is frozen."""
    model = net()
    model[0].requires_grad_(False)
    before = values(model)
    train(model, make(model.parameters()))
    moved = [not torch.equal(*pair) for pair in zip(before, values(model), strict=True)]
    check(moved == [False, False, True, True], "the wrong parameters move")


@probe("0-dim and empty parameters")
def odd(make: Make) -> None:
    """Both beside each other."""
    parameters = [nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(0, 3))]
    optimizer = make(parameters)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    check(parameters[0] < 1, "the 0-dim parameter does not go down its gradient")


@probe("a closure is called, and its loss returned")
def closure(make: Make) -> None:
    """As Lightning always does."""
    model, calls = net(), []
    optimizer = make(model.parameters())

    def called() -> Tensor:
        calls.append(backward(model))
        return calls[-1]

    returned = optimizer.step(called)
    check(len(calls) == 1, f"it is called {len(calls)} times")
    check(returned is calls[0], "its loss is not returned")


@probe("a NaN gradient spoils no later step")
def poison(make: Make) -> None:
    """One bad batch in a row of good ones."""
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer)
    backward(model)
    model[0].weight.grad.view(-1)[0] = float("nan")
    optimizer.step()
    train(model, optimizer)
    check(all(tensor.isfinite().all() for tensor in values(model)), "parameters are NaN after it")


@probe("zero gradients at the start leave parameters alone")
def zeros(make: Make) -> None:
    """Without weight decay."""
    model = net()
    before, optimizer = values(model), make(model.parameters())
    backward(model)
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    check(same(before, values(model)), "parameters move")


@probe("a state from a file goes on to the last bit")
def resume(make: Make) -> None:
    """The file is read with `weights_only=True`."""
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    resumed = make(other.parameters())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(model, optimizer, start=3)
    train(other, resumed, start=3)
    check(same(values(model), values(other)), "it goes on elsewhere")


@probe("a bfloat16 model's state goes on to the last bit")
def resume_bfloat16(make: Make) -> None:
    """The state may not be rounded to the dtype of the parameters."""
    model = net(torch.bfloat16)
    optimizer = make(model.parameters())
    train(model, optimizer)
    other = copy.deepcopy(model)
    resumed = make(other.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 10, start=3)
    train(other, resumed, 10, start=3)
    check(same(values(model), values(other)), "it goes on elsewhere")


@probe("a state is loaded twice, and training goes on")
def twice(make: Make) -> None:
    """As after going back to the best checkpoint."""
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer)
    for _ in range(2):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(model, optimizer)


@probe("a deep copy and a pickle go on to the last bit")
def copies(make: Make) -> None:
    """Of the model and the optimizer together."""
    for copier in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        model = net()
        optimizer = make(model.parameters())
        train(model, optimizer)
        other, copied = copier((model, optimizer))
        train(model, optimizer, start=3)
        train(other, copied, start=3)
        check(same(values(model), values(other)), "the copy goes elsewhere")


@probe("add_param_group after some steps")
def added(make: Make) -> None:
    """The new parameters learn."""
    model, more = net(), nn.Linear(2, 2)
    optimizer = make(model.parameters())
    train(model, optimizer)
    optimizer.add_param_group({"params": list(more.parameters())})
    before = values(more)
    more(torch.ones(1, 2)).square().sum().backward()
    train(model, optimizer)
    check(not any(map(torch.equal, before, values(more))), "they do not move")


@probe("a scheduler that sets lr to 0 stops training")
def scheduled(make: Make) -> None:
    """`lr` means what it says."""
    model = net()
    optimizer = make(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 1))
    train(model, optimizer)
    scheduler.step()
    before = values(model)
    train(model, optimizer)
    check(same(before, values(model)), "parameters move")


@probe("GradScaler skips a step that overflows")
def scaler_skips(make: Make) -> None:
    """And the next is taken."""
    model = net()
    optimizer = make(model.parameters())
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
def channels_last(make: Make) -> None:
    """Memory formats say nothing about what is computed."""
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
