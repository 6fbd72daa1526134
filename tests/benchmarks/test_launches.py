import torch
from torch import nn

from benchmarks import launches
from benchmarks.launches import counted
from benchmarks.models import images
from benchmarks.step import Case


def stack(layers):
    def build():
        return nn.Sequential(*(nn.Linear(6, 6) for _ in range(layers)))

    return Case("layers", build, images(2, 6))


def test_depth_does_not_add_operations():
    few, many = (counted(stack(layers), launches.ours) for layers in (3, 12))
    assert few["between"] < few["mean"] < few["refresh"]
    # A list of tensors counts once, and all layers are in one list.
    assert many["between"] <= few["between"] + 5
    assert many["refresh"] <= few["refresh"] + 5


def test_views_launch_nothing():
    with launches.Count() as count:
        torch.ones(2, 3).t().reshape(6)[1:].unsqueeze(0)
    assert count.number == 2  # ones, and the copy that the reshape of a transposed matrix is
