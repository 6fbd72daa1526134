"""Small networks that encoders are tested on."""

import torch
from torch import nn

import ngopt
from ngopt.encoders import Networks, Stack
from ngopt.graph.permute import permute


class Convnet(nn.Module):
    """Two layers around a skip, then a head."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.up, self.down = nn.Conv2d(width, 5, 3, padding=1), nn.Conv2d(5, width, 1)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.down(torch.nn.functional.gelu(self.up(x)))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """Two layers of an LSTM and a head."""

    def __init__(self, width):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, width, 2, batch_first=True), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def mlp(width):
    return nn.Sequential(
        nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
    )


KINDS = {
    "mlp": (mlp, (4, 3)),
    "convnet": (Convnet, (2, 3, 6, 6)),
    "lstm": (Recurrent, (2, 5, 3)),
}


def stack_of(kind, count=3, width=6, seed=0):
    """Random networks of one architecture, in double precision."""
    build, shape = KINDS[kind]
    model = build(width)
    graph = ngopt.trace(model, torch.zeros(shape))
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        name: torch.randn(count, *p.shape, generator=generator, dtype=torch.float64) / 2
        for name, p in model.named_parameters()
    }
    return Stack(graph, parameters, model)


def networks_of(kind, count=3, width=6, seed=0):
    return Networks((stack_of(kind, count, width, seed),))


def mixed():
    """Networks of all architectures and of two widths, of each a few, in an order of their own."""
    stacks = [stack_of(kind, 2, width) for kind in KINDS for width in (6, 4)]
    return Networks(tuple(stacks), torch.randperm(12, generator=torch.Generator().manual_seed(0)))


def one(networks, place):
    """One network of a batch by itself."""
    order = torch.arange(len(networks)) if networks.order is None else networks.order
    row = order.tolist().index(place)
    for stack in networks:
        if row < len(stack):
            return Networks((stack.select(slice(row, row + 1)),))
        row -= len(stack)
    raise IndexError(place)


def permuted(stack, seed=1):
    """The same networks, with the hidden neurons of each in another order."""
    rows = [
        permute(stack.graph, {name: t[i] for name, t in stack.parameters.items()}, seed + i)
        for i in range(len(stack))
    ]
    return Stack(stack.graph, {name: torch.stack([r[name] for r in rows]) for name in rows[0]})


def moved(stack, outputs, seed=1):
    """Outputs for entries `(networks, *shape, outputs)`, permuted as the networks were."""
    result = {name: [] for name in outputs}
    for i in range(len(stack)):
        for k in range(next(iter(outputs.values())).shape[-1]):
            tensors = {name: tensor[i, ..., k] for name, tensor in outputs.items()}
            for name, tensor in permute(stack.graph, tensors, seed + i).items():
                result[name].append(tensor)
    return {
        name: torch.stack(rows).unflatten(0, (len(stack), -1)).movedim(1, -1)
        for name, rows in result.items()
    }
