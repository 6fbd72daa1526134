"""LSTMs with a linear read-out, to be run and read."""

import torch
from torch import nn

import ngopt
from ngopt.encoders.networks import Networks, Stack
from ngopt.graph.permute import permute


class Speaker(nn.Module):
    """An LSTM and a linear read-out."""

    def __init__(self, inputs=3, hidden=4, layers=2, outputs=3, **options):
        super().__init__()
        self.core = nn.LSTM(inputs, hidden, layers, batch_first=True, **options)
        self.head = nn.Linear(
            self.core.proj_size or hidden * (1 + self.core.bidirectional), outputs
        )

    def forward(self, x):
        return self.head(self.core(x)[0])


def speakers(count=3, dtype=torch.float64, scale=0.7, **sizes):
    """A stack of networks with normal weights."""
    model = Speaker(**sizes)
    parameters = {
        name: scale * torch.randn(count, *p.shape, dtype=dtype)
        for name, p in model.named_parameters()
    }
    graph = ngopt.trace(model, torch.zeros(2, 3, model.core.input_size))
    return Stack(graph, parameters, model)


def batch(*stacks):
    """Stacks beside each other."""
    return Networks(tuple(stacks))


def permuted(stack):
    """The same networks; the hidden neurons of each are in another order."""
    each = [
        permute(stack.graph, {name: p[i] for name, p in stack.parameters.items()}, seed)
        for seed, i in enumerate(range(len(stack)), 5)
    ]
    parameters = {name: torch.stack([one[name] for one in each]) for name in stack.parameters}
    return Stack(stack.graph, parameters, stack.model)
