"""The learned optimizer Celo as it was published, with weights from a file."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_train.errors import MetaTrainError

DECAYS = (0.9, 0.99, 0.999)
"""Of the momenta, and of the row and column means of squared gradients."""

SQUARE_DECAY = 0.999
LARGEST = 1000.0
TIMES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
"""Shares of the training that the scheduler tells apart."""


class Celo(Optimizer):
    """Celo: a tiny network makes the direction of each entry, and an LSTM the size of all steps.

    The LSTM sees how much of the training is left and how the loss falls, which is the same for all
    tensors, so that it runs once for all of them. What it knows is no part of the state dict.

    Args:
        params: to train, each with two or more dimensions laid out as torch's layers are, with the
            outputs first.
        lr: factor of all steps; published is 1.
        weight_decay: 0; there is none in what was published.
        weights: safetensors file of the published weights, whose names are those of the original
            with dots for slashes.
        num_steps: number of steps to come.

    Raises:
        MetaTrainError: if the file cannot be read or holds other weights, or there is weight decay.

    Source: Moudgil et al., "Celo: Training Versatile Learned Optimizers on a Compute Diet", 2025,
    and its code (github.com/amoudgl/celo), after Metz et al., "VeLO: Training Versatile Learned
    Optimizers by Scaling Up", 2022.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1.0,
        weight_decay: float = 0.0,
        *,
        weights: str | Path,
        num_steps: int,
    ) -> None:
        if weight_decay:
            raise MetaTrainError(
                f"Celo was published without weight decay, but got {weight_decay}.\n"
                "  Use weight_decay=0."
            )
        super().__init__(params, {"lr": lr})
        self._theta = _read(Path(weights))
        self._schedule = _Schedule(self._theta, num_steps)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do a step.

        Args:
            closure: returns the loss that the gradients are of.

        Raises:
            MetaTrainError: if there is none.
        """
        if closure is None:
            raise MetaTrainError(
                "Celo needs the loss of each step.\n  Use optimizer.step(lambda: loss)."
            )
        with torch.enable_grad():
            loss = closure()
        size = self._schedule.step(float(loss))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._direction(parameter)
                    parameter.sub_(direction, alpha=group["lr"] * size)
        return loss

    def _direction(self, parameter: Tensor) -> Tensor:
        """What is subtracted, but for the size that the LSTM gives to all tensors."""
        gradient = parameter.grad
        assert gradient is not None
        seen = features(parameter, gradient.clamp(-LARGEST, LARGEST), self.state[parameter])
        seen = seen.reshape(len(seen), -1)
        unit = (seen.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        hidden = (seen * unit).T
        for number in range(3):
            weight, bias = (self._theta[f"{kind}{number}"].to(hidden) for kind in ("w", "b"))
            hidden = hidden @ weight + bias
            hidden = hidden if number == 2 else hidden.relu()
        direction, magnitude, _ = hidden.unbind(-1)
        scale = (parameter.square().mean() + 1e-9).sqrt()
        return (0.001 * scale * direction * (0.001 * magnitude).exp()).view_as(parameter)


class _Schedule:
    """The size of steps: an LSTM that sees the share of the training and means of the loss."""

    def __init__(self, theta: dict[str, Tensor], steps: int) -> None:
        self._theta, self._steps = theta, steps
        self._hidden, self._cell = theta["hidden"], theta["cell"]
        self._losses = LossMeans(steps)
        self._made = 0

    def step(self, loss: float) -> float:
        """Size of the next step, given the loss of its batch."""
        self._losses.add(loss)
        share = torch.tensor(self._made / self._steps)
        left = torch.tanh((share - torch.tensor(TIMES)) * 10)
        self._made += 1
        seen = torch.cat([left, self._losses.features().float()])
        # Of the mixing layers, the original overwrites the first one's result. The largest over all
        # tensors is that of any, for all are alike.
        mixed = self._linear("linear_1", seen).relu() + self._linear("linear_2", seen)
        gates = self._linear("rnn/linear", torch.cat([mixed, self._hidden]))
        enter, new, forget, out = gates.chunk(4)
        self._cell = (forget + 1).sigmoid() * self._cell + enter.sigmoid() * new.tanh()
        self._hidden = out.sigmoid() * self._cell.tanh()
        return 0.1 * math.exp(float(self._linear("step_size", self._hidden)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self._theta[f"{name}.w"] + self._theta[f"{name}.b"]


class LossMeans:
    """Ten running means of the loss, from fast to as slow as the training is long.

    Args:
        steps: number of steps to come.
    """

    def __init__(self, steps: int) -> None:
        halves = torch.logspace(1, math.log10(steps), 10, dtype=torch.float64)
        self._decays = torch.exp(-1 / halves)
        self._means = torch.zeros_like(self._decays)
        self._least = torch.full_like(self._decays, 999999999999.0)
        self._seen = 0

    def _corrected(self) -> Tensor:
        """The means without their start at zero."""
        return self._means / (1 - self._decays**self._seen)

    def add(self, loss: float) -> None:
        """Take a loss in; one above twice the largest mean counts as that."""
        known = self._seen > 0
        self._seen += 1
        if known:  # The means are one step old here, but are corrected for this one.
            loss = min(2 * abs(float(self._corrected().max())), loss)
        else:
            loss = min(2 * abs(loss), loss)
        self._means = self._decays * self._means + (1 - self._decays) * loss
        self._least = torch.minimum(self._least, self._corrected())

    def features(self) -> Tensor:
        """Where each mean stands between its least and the next slower mean, from -1 to 1, (9,)."""
        if self._seen <= 2:
            return torch.zeros(9, dtype=torch.float64)
        means, least = self._corrected(), self._least[:-1]
        apart = (means[1:] - least).clamp(min=1e-8)
        return ((means[:-1] - least) / apart - 1).clamp(-1, 1)


def features(parameter: Tensor, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The thirty features of each entry, (30, *shape), not yet normalised.

    Args:
        parameter: before the step.
        gradient: of the same shape.
        state: of the parameter; begun if it is empty, and brought forward.
    """
    dims = factored(parameter.shape)
    square = gradient.square()
    news = {"momenta": gradient, "square": square, "rows": square + 1e-30}
    if dims:
        news |= {
            name: news["rows"].mean(dim, keepdim=True)
            for name, dim in (("columns", dims[0]), ("rows", dims[1]))
        }
    decays = torch.tensor(DECAYS).to(gradient).view(-1, *[1] * gradient.dim())
    for name, new in news.items():
        decay = SQUARE_DECAY if name == "square" else decays
        old = state.get(name, torch.zeros_like(new))
        state[name] = decay * old + (1 - decay) * new
    momenta, rows = state["momenta"], state["rows"]
    columns = state["columns"] if dims else rows
    scale, momenta_scale = _factored_scales(rows, columns, dims)
    root = (state["square"] + 1e-6).rsqrt()
    own = [gradient, gradient.clamp(-0.1, 0.1), parameter]
    parts = [
        *(tensor.unsqueeze(0) for tensor in own),
        momenta,
        state["square"].unsqueeze(0),
        momenta * root,
        root.unsqueeze(0),
        gradient * scale,
        (gradient * root).unsqueeze(0),
        rows,
        columns,
        (rows + 1e-8).rsqrt(),
        (columns + 1e-8).rsqrt(),
        momenta * momenta_scale,
    ]
    return torch.cat([part.expand(len(part), *gradient.shape) for part in parts])


def _factored_scales(
    rows: Tensor, columns: Tensor, dims: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """Of the gradient and of the momenta, one over the root of the mean squares."""
    if dims is None:
        return (rows + 1e-9).clamp(min=1e-9).rsqrt(), rows.rsqrt()
    mean = rows.mean(dims[0] + 1, keepdim=True)
    scale = (rows / (mean + 1e-9)).clamp(min=1e-9).rsqrt() * columns.clamp(min=1e-9).rsqrt()
    return scale, scale


def factored(shape: torch.Size) -> tuple[int, int] | None:
    """The second largest and the largest dimension of a tensor, None if it has but one.

    Of dimensions that are alike, the later one counts as larger, in the order of JAX's layers:
    taps, inputs, outputs.
    """
    if len(shape) < 2:
        return None
    order = [*range(2, len(shape)), 1, 0]
    *_, second, first = sorted(order, key=lambda dim: shape[dim])
    return second, first


def _read(path: Path) -> dict[str, Tensor]:
    """Weights by short names; the first layer of the entries' network as one matrix (30, width)."""
    try:
        stored = load_file(path)
        network = {
            name: stored[f"ff_mod_stack.~.{name}"][0] for name in ("w1", "w2", "b0", "b1", "b2")
        }
        first = torch.cat([stored[f"ff_mod_stack.~.w0__{n}"][0] for n in range(14)])
        rnn = {
            f"{layer}.{kind}": stored[f"rnn_params.{layer}.{kind}"]
            for layer in ("linear_1", "linear_2", "rnn/linear", "step_size")
            for kind in ("w", "b")
        }
        initial = {name: stored[f"lstm_init_state.{name}"][0] for name in ("hidden", "cell")}
        return {**network, "w0": first, **rnn, **initial}
    except (OSError, SafetensorError, KeyError) as error:
        raise MetaTrainError(
            f"cannot read the weights of Celo from `{path}`: {error!r}.\n"
            "  Give a safetensors file of the published weights: theta.state of "
            "github.com/amoudgl/celo with dots for slashes in the names."
        ) from error
