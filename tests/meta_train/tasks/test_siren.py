import math

import torch

from meta_train.data.images import images
from meta_train.tasks.siren import SineNetwork, centres
from tests.meta_train.data.original_files import write_cifar10
from tests.meta_train.tasks.table import stacked, task_of

TEXT = "siren:width=8,depth=2,batch=32"


def test_pixels_are_where_the_points_say():
    _, _, context, (points, values) = stacked(TEXT)
    place = ((points + 1) * 4 - 0.5).round().long()
    for run, picture in enumerate(context["picture"]):
        square = picture.reshape(8, 8)
        assert torch.equal(values[run, :, 0], square[place[run, :, 0], place[run, :, 1]])


def test_pictures_are_of_the_training_split():
    _, _, context, _ = stacked(TEXT)
    known = set(map(tuple, images("digits", 8).splits["train"][0].flatten(1).tolist()))
    assert all(tuple(picture.flatten().tolist()) in known for picture in context["picture"])


def test_centres_of_pixels():
    assert centres(2).tolist() == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


def test_colours(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    write_cifar10(tmp_path, monkeypatch)
    task = task_of("siren:data=cifar10,size=8,width=8,depth=1,frequency=30.0,batch=16")
    problem = task.problem(torch.Generator())
    assert problem.context["picture"].shape == (64, 3)
    batch = task.batches({"picture": problem.context["picture"][None]}, 1, torch.Generator())
    assert task.loss(*problem, tuple(t[0] for t in batch)).isfinite()


def test_activations_are_alike_in_every_layer():
    torch.manual_seed(0)
    network = SineNetwork(1, 256, 4, 30.0)
    x = centres(16)
    for i, layer in enumerate(network.layers[:-1]):
        weighted = 30.0 * (layer(x) - layer.bias)
        x = (30.0 * layer(x)).sin()
        if i:
            assert 0.9 < weighted.std() < 1.1
            assert abs(x.square().mean() - 0.5) < 0.1
    assert network(centres(16)).shape == (256, 1)
    bounds = [float(layer.weight.detach().abs().max()) for layer in network.layers]
    assert bounds[0] <= 0.5
    assert all(bound <= math.sqrt(6 / 256) / 30 for bound in bounds[1:])
