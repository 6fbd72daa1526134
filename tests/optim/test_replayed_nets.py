"""Steps of common nets are replayed: none falls back to Python, which takes several times as long.

Any step of any test that falls back fails that test (tests/conftest.py); here stand nets in which
tensors of all kinds meet, alike and not alike.
"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ngopt import NeuralGraphOptimizer
from ngopt.replay.replay import Replay
from ngopt.rules import MatrixGNN


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.head = kind(4, 16, 2, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.cells(x)[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, x):
        return self.layers(self.words(x)) @ self.words.weight.T


def mlp(*widths, norm=nn.Identity):
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), norm(after), nn.Tanh()]
    return nn.Sequential(*layers[:-2])


def transformer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def convnet(norm, **options):
    layers = []
    for before in (4, 8, 8):
        layers += [nn.Conv2d(before, 8, 3, **options), norm(8), nn.PReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3))


X, ROW, IMAGE = torch.randn(5, 2), torch.randn(5, 3, 4), torch.randn(3, 4, 8, 8)
NETS = {
    "mlp": (lambda: mlp(2, 32, 32, 1), X),
    "deep mlp of equal layers": (lambda: mlp(2, 16, 16, 16, 16, 2), X),
    "mlp, layer norm": (lambda: mlp(2, 24, 24, 24, 1, norm=nn.LayerNorm), X),
    "mlp, batch norm": (lambda: mlp(2, 24, 24, 24, 1, norm=nn.BatchNorm1d), X),
    "rnn": (lambda: Recurrent(nn.RNN), ROW),
    "gru": (lambda: Recurrent(nn.GRU), ROW),
    "lstm": (lambda: Recurrent(nn.LSTM), ROW),
    "transformer": (transformer, torch.randn(2, 3, 16)),
    "tied layers": (Tied, torch.randint(20, (5, 3))),
    "convnet": (lambda: convnet(nn.BatchNorm2d), IMAGE),
    "convnet, groups": (lambda: convnet(lambda n: nn.GroupNorm(2, n), groups=2), IMAGE),
    "single tensors": (lambda: nn.Linear(1, 1, bias=False), torch.randn(3, 1)),
}
SETTINGS = {
    "default": (lambda: "default", torch.float32),
    "double": (lambda: "default", torch.float64),
    "every step": (lambda: MatrixGNN(square_dtype="bfloat16"), torch.float32),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NETS)
def test_every_step_is_replayed(name, setting):
    (build, x), (rule, dtype) = NETS[name], SETTINGS[setting]
    model = build().to(dtype)
    optimizer = NeuralGraphOptimizer(model, rule=rule())
    for _ in range(12):  # From the eleventh on, the rule does not look at the whole model.
        optimizer.zero_grad()
        model(x.to(dtype) if x.is_floating_point() else x).square().mean().backward()
        optimizer.step()
    kept = [thing for _, thing in optimizer.rule.replays.values()]
    replays = [thing for thing in kept if isinstance(thing, Replay)]
    assert len(replays) == (1 if optimizer.rule.refresh_every == 1 else 2)
    assert all(replay.recordings == 1 for replay in replays)
