"""A tiny zoo of images, and encoders that are good for nothing but tests."""

from dataclasses import replace

import torch
from torch import nn

from meta_train.reading.readers import ENCODERS
from meta_train.zoo.inr import InrOptions, run_inr

OPTIONS = {
    "data": "digits",
    "networks": 60,
    "width": 4,
    "steps": 3,
    "pixels": 0,
    "chunk": 60,
    "validation": 0.2,
    "test": 0.3,
    "device": "cpu",
}


def images_zoo(folder):
    """60 sine networks, hardly fitted to digits of 8 x 8 pixels: 30 to train, 18 to test on."""
    return run_inr(InrOptions(folder=folder, **OPTIONS), echo=lambda text: None)


def with_columns(zoo, **columns):
    """The same zoo with other columns; `snapshots` networks of each run follow each other."""
    return replace(zoo, columns={**zoo.columns, **columns})


class Moments(nn.Module):
    """Encodes the mean and mean square of each tensor; tells of each entry a small change."""

    def __init__(self, networks, seed=0, width=6, entry_outputs=0):
        super().__init__()
        self.width, self.entry_outputs = width, entry_outputs
        names = len(networks.stacks[0].parameters)
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(2 * names, width, generator=generator))
        self.entry = nn.Parameter(0.01 * torch.randn(1, generator=generator))

    def forward(self, networks):
        rows = []
        for stack in networks:
            flat = [tensor.flatten(1) for tensor in stack.parameters.values()]
            features = [f.mean(1) for f in flat] + [f.square().mean(1) for f in flat]
            rows.append(torch.stack(features, 1) @ self.weight)
        return networks.in_order(rows)

    def entries(self, networks):
        return [
            {
                name: (tensor.unsqueeze(-1) + 1) * self.entry
                for name, tensor in stack.parameters.items()
            }
            for stack in networks
        ]


ENCODERS["moments"] = Moments
