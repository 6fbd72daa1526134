"""Networks changed in training: their images are moved, and nothing is changed in place."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import ngopt
from meta_train.errors import MetaTrainError
from meta_train.reading.augmentation import Augmentation
from meta_train.zoo.siren import evaluate, points
from ngopt.encoders.networks import Networks


def double(zoo):
    return zoo.networks(torch.arange(6)).to(torch.float64)


def changed(networks, **options):
    return Augmentation(**options)(networks, torch.Generator().manual_seed(3))


def draws(generator_seed=3, networks=6):
    """What an augmentation draws first: turn, size and move of each network, from -1 to 1."""
    generator = torch.Generator().manual_seed(generator_seed)
    return 2 * torch.rand(4, networks, generator=generator).double() - 1


def values(networks, at):
    return torch.cat([evaluate(stack.parameters, at, 30.0) for stack in networks])


def test_an_image_is_turned_resized_and_moved_as_a_whole(zoo):
    networks = double(zoo)
    moved = changed(networks, translate=0.25, rotate=45, scale=0.2)
    at = points(8).double()
    angle, size, *shift = draws()
    for n in range(6):
        turn, zoom = float(angle[n]) * math.pi / 4, 1 + 0.2 * float(size[n])
        by = 0.25 * torch.stack([shift[0][n], shift[1][n]])
        cos, sin = math.cos(turn), math.sin(turn)
        matrix = zoom * torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
        expected = values(networks, (at - by) @ matrix.T)[n]
        assert torch.allclose(values(moved, at)[n], expected, atol=1e-10)
        assert not torch.allclose(values(moved, at)[n], values(networks, at)[n], atol=1e-3)


def test_noise_is_drawn_anew_for_each_weight(zoo):
    networks = double(zoo)
    (before,), (after,) = networks, changed(networks, noise=0.1)
    name = "layers.1.weight"
    noise = after.parameters[name] - before.parameters[name]
    std = before.parameters[name].flatten(1).std(1, correction=0)
    assert len(torch.unique(noise)) == noise.numel()
    assert (noise.flatten(1) / std[:, None]).std() == pytest.approx(0.1, rel=0.2)
    assert abs(float(noise.mean())) < 0.02 * float(std.mean())


def test_weights_are_dropped_at_random(zoo):
    (after,) = changed(double(zoo), drop=0.25)
    zeros = (after.parameters["layers.1.weight"] == 0).double().mean()
    assert float(zeros) == pytest.approx(0.25, abs=0.15)


def test_networks_stay_as_they_are(zoo):
    networks = double(zoo)
    before = {name: t.clone() for name, t in networks.stacks[0].parameters.items()}
    changed(networks, translate=0.2, rotate=10, scale=0.1, noise=0.1, drop=0.1)
    assert all(torch.equal(before[n], t) for n, t in networks.stacks[0].parameters.items())


def test_the_same_generator_changes_the_same(zoo):
    options = {"translate": 0.2, "noise": 0.1}
    (one,), (same,) = changed(double(zoo), **options), changed(double(zoo), **options)
    assert all(torch.equal(t, same.parameters[n]) for n, t in one.parameters.items())


def test_only_images_are_moved():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    stack = Networks.from_modules([module], torch.zeros(1, 2)).stacks[0]
    with pytest.raises(MetaTrainError, match="that are no images"):
        Augmentation(translate=0.1).check((stack,))
    Augmentation(noise=0.1).check((stack,))
    assert ngopt.trace(module, torch.zeros(1, 2)) == replace(stack).graph


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(MetaTrainError, match="scale and drop below 1"):
        Augmentation(drop=1.0)
