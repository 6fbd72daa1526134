import math

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss, pad

from meta_train.data.dataset import Dataset
from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.noisy_images import NoisyImages
from meta_train.tasks.mlp import MLP
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import problems


def mlp(batch=40):
    family = MLP(width=(8,), depth=(1,), batch=(batch,))
    return family.sample(torch.Generator().manual_seed(0))


class Drawing:
    """Wrapped batches of a seed, beside those of the task within."""

    def __init__(self, seed=0, split="train", **options):
        inner = mlp()
        task = NoisyImages(inner, **options)
        self.images, self.labels = task.batches({}, 3, torch.Generator().manual_seed(seed), split)
        self.before, self.labels_before = inner.batches(
            {}, 3, torch.Generator().manual_seed(seed), split
        )

    def pairs(self):
        return zip(self.images.flatten(0, 1), self.before.flatten(0, 1), strict=True)


def shifted(image, down, right):
    size = image.shape[-1]
    framed = pad(image, [2] * 4)
    return framed[:, 2 + down : 2 + down + size, 2 + right : 2 + right + size]


def test_each_image_is_shifted_by_itself():
    moves = set()
    for image, before in Drawing(shift=2, flip=False, gain=1).pairs():
        where = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(image, shifted(before, down, right))
        ]
        assert where
        moves.update(where)
    assert len(moves) == 25


def test_half_of_the_images_are_mirrored():
    mirrored = []
    for image, before in Drawing(shift=0, flip=True, gain=1).pairs():
        mirrored.append(torch.equal(image, before.flip(-1)))
        assert mirrored[-1] or torch.equal(image, before)
    assert 40 < sum(mirrored) < 80


def test_brightness_is_log_uniform():
    gains = torch.stack(
        [(i / b)[b != 0].median() for i, b in Drawing(shift=0, flip=False, gain=3).pairs()]
    )
    exponents = gains.log() / math.log(3)
    assert exponents.abs().max() <= 1.0001
    assert abs(exponents.mean()) < 0.15
    assert exponents.std().item() == pytest.approx(3**-0.5, abs=0.08)


def test_shape_labels_and_other_splits_stay():
    drawing = Drawing()
    assert drawing.images.shape == drawing.before.shape == (3, 40, 1, 8, 8)
    assert torch.equal(drawing.labels, drawing.labels_before)
    held_out = Drawing(split="held_out")
    assert torch.equal(held_out.images, held_out.before)


def test_the_generator_decides():
    assert torch.equal(Drawing(seed=1).images, Drawing(seed=1).images)


def test_a_loss_can_be_stacked():
    task, generator = NoisyImages(mlp()), torch.Generator().manual_seed(0)
    start = problems(task, 3, generator)
    batch = task.batches(start.context, 3, generator)
    assert torch.vmap(task.loss)(*start, batch).isfinite().all()


def test_what_is_no_image_is_refused():
    data = Dataset("line", dict.fromkeys(("train", "held_out", "test"), (torch.ones(9, 4),) * 2))
    task = NoisyImages(ModelTask(lambda: nn.Linear(4, 4), data, mse_loss))
    with pytest.raises(MetaTrainError, match="the batches of `line` do not begin with images"):
        task.batches({}, 1, torch.Generator())
    with pytest.raises(MetaTrainError, match="a finite gain of at least 1"):
        NoisyImages(mlp(), gain=0.5)
