"""Networks small enough to be read in a test, of several architectures."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ngopt.encoders.networks import Networks, Stack
from ngopt.graph.permute import permute


class Siren(nn.Module):
    """An image: from two coordinates to a brightness."""

    def __init__(self, width: int = 7) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, width), nn.Linear(width, width)
        self.three = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sin(3 * self.one(x))
        return self.three(torch.sin(3 * self.two(x)))


class SkipConvNet(nn.Module):
    """A convolutional network with a skip, a norm and a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=1)
        self.inner = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.back = nn.Conv2d(6, 5, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = self.back(torch.tanh(self.norm(self.inner(x))))
        x = nn.functional.avg_pool2d(x, 2) + nn.functional.dropout(y, 0.5, self.training)
        return self.head(torch.relu(x).mean((2, 3)))


class Recurrent(nn.Module):
    """Two layers of an LSTM, which cannot be run many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = nn.LSTM(3, 4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[0])


def siren_inputs() -> Tensor:
    return torch.randn(4, 2, dtype=torch.float64)


def image_inputs() -> Tensor:
    return torch.randn(4, 2, 6, 6, dtype=torch.float64)


def modules(make: Callable[[], nn.Module], count: int) -> list[nn.Module]:
    """Modules in double precision whose parameters and statistics all differ."""
    result = []
    for _ in range(count):
        module = make().double()
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.5).mul_(torch.randn_like(tensor).sign())
        for name, tensor in module.named_buffers():
            if name.endswith("var"):
                tensor.abs_()
        result.append(module)
    return result


def siren(count: int = 3) -> Networks:
    return Networks.from_modules(modules(Siren, count), siren_inputs())


def convnet(count: int = 3) -> Networks:
    return Networks.from_modules(modules(SkipConvNet, count), image_inputs())


def recurrent(count: int = 3) -> Networks:
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)
    return Networks.from_modules(modules(Recurrent, count), inputs)


NETWORKS = {"siren": siren, "convnet": convnet, "recurrent": recurrent}


def permuted(stack: Stack, seed: int = 0) -> Stack:
    """The same networks, the hidden neurons of each in another order."""
    tensors = {**stack.parameters, **(stack.buffers or {})}
    rows = [
        permute(stack.graph, {name: t[n] for name, t in tensors.items()}, seed + n)
        for n in range(len(stack))
    ]
    moved = {name: torch.stack([row[name] for row in rows]) for name in tensors}
    return Stack(
        stack.graph,
        {name: moved[name] for name in stack.parameters},
        stack.model,
        {name: moved[name] for name in stack.buffers or {}},
    )
