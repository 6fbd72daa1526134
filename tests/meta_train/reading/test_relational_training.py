import dataclasses
import math

import pytest
import torch

from meta_train import checkpoint
from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.reading import relational_training
from meta_train.reading.relational_networks import network
from meta_train.reading.relational_plan import Shape
from meta_train.reading.relational_training import Recipe, changed, error, train
from meta_train.tasks.ws_sweep import named

RECIPE = Recipe(epochs=4, batch=64, flip=False, shift=1)
SHAPE = Shape("mlp", 1, 8, 10, 24, 3)


def built(seed=0):
    return network(SHAPE, named("small_world", 16).graph, 40, seed, "blocks")


def test_a_network_learns_and_its_error_is_counted():
    data, one = images("digits", 8), built()
    outcome = train(one, data, RECIPE, seed=1)
    assert len(outcome.losses) == 4
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]
    assert outcome.test_error < 20
    pictures, labels = data.splits["test"]
    wrong = (one(pictures).argmax(1) != labels).float().mean().item()
    assert outcome.test_error == error(one, pictures, labels) == pytest.approx(100 * wrong)


def test_the_rate_is_along_half_a_cosine(monkeypatch):
    rates = []

    def seen(network, optimizer, images, labels):
        rates.append(optimizer.param_groups[0]["lr"])
        return torch.zeros(())

    monkeypatch.setattr(relational_training, "_step", seen)
    train(built(), images("digits", 8), RECIPE, seed=1)
    steps = len(rates)
    assert steps == 4 * (1197 // 64)
    assert rates == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    )


def test_cut_short_it_goes_on_to_the_same_bits(tmp_path):
    whole, cut, resumed = built(), built(), built()
    data = images("digits", 8)
    outcome = train(whole, data, RECIPE, seed=1)

    def stop(epoch, network):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, data, RECIPE, 1, tmp_path, stop)
    assert checkpoint.latest(tmp_path)[0] == 2
    seen = []
    again = train(resumed, data, RECIPE, 1, tmp_path, lambda epoch, network: seen.append(epoch))
    assert seen == [3, 4]
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(outcome, seconds=0)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


def test_other_seeds_see_other_batches():
    data = images("digits", 8)
    losses = [train(built(), data, RECIPE, seed).losses for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_images_are_moved_and_mirrored():
    pictures = torch.arange(1.0, 26).view(1, 1, 5, 5).repeat(400, 1, 1, 1)
    moved = changed(pictures, Recipe(flip=False, shift=1), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(pictures[0, 0], [1] * 4)
    known = {padded[d : d + 5, r : r + 5].numpy().tobytes() for d in range(3) for r in range(3)}
    assert {picture[0].numpy().tobytes() for picture in moved} == known
    mirrored = changed(pictures, Recipe(flip=True, shift=0), torch.Generator().manual_seed(0))
    flipped = (mirrored == pictures.flip(3)).all(dim=(1, 2, 3))
    assert ((mirrored == pictures).all(dim=(1, 2, 3)) ^ flipped).all()
    assert 120 < flipped.sum() < 280


def test_what_trains_nothing_is_refused():
    for wrong in ({"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"shift": -1}):
        with pytest.raises(MetaTrainError, match="trains nothing"):
            Recipe(**wrong)
    with pytest.raises(MetaTrainError, match="do not fill a batch"):
        train(built(), images("digits", 8), Recipe(batch=2000), 0)
