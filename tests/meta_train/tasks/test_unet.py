import math

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.unet import TIMES, cosine_schedule, linear_schedule, sinusoids
from tests.meta_train.tasks.table import stacked, task_of

TEXT = "unet:size=8,width=8,depth=1,batch=16"


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_levels_go_from_the_image_to_noise(schedule):
    left = schedule()
    assert left.shape == (TIMES,)
    assert (left[1:] < left[:-1]).all()
    assert left[0] > 0.99
    assert 0 < left[-1] < 0.01


def test_the_cosine_is_half_way_at_half_the_times():
    assert abs(cosine_schedule()[TIMES // 2 - 1] - 0.5) < 0.02


def test_noise_is_drawn_with_the_batch_and_takes_the_place_of_the_image():
    task, _, _, (noisy, times, noise) = stacked(TEXT)
    assert noisy.shape == noise.shape == (3, 16, 1, 8, 8)
    assert times.shape == (3, 16)
    assert len(times.unique()) > 16
    assert abs(noise.mean()) < 0.1
    assert 0.9 < noise.std() < 1.1
    left = task.left[times.long()].view(3, 16, 1, 1, 1)
    pictures = (noisy - (1 - left).sqrt() * noise) / left.sqrt()
    known = task.data.splits["train"][0]
    for picture in pictures[times < TIMES // 2][:5]:
        assert (known - picture).abs().flatten(1).amax(1).min() < 1e-3


def test_sinusoids_tell_times_apart():
    embedded = sinusoids(torch.arange(TIMES).float(), 8)
    assert embedded.shape == (TIMES, 8)
    assert torch.pdist(embedded).min() > 0.01
    torch.testing.assert_close(embedded[1, 0], torch.tensor(math.sin(1.0)))


def test_fine_maps_skip_the_coarse_ones():
    module = task_of(TEXT).module
    pictures, times = torch.randn(2, 1, 8, 8), torch.zeros(2)
    with torch.no_grad():
        kept = module.grow.weight.clone(), module.grow.bias.clone()
        before = module(pictures, times)
        module.grow.weight.zero_()
        module.grow.bias.zero_()
        fine = module(pictures, times)
        module.grow.weight.copy_(kept[0])
        module.grow.bias.copy_(kept[1])
    assert fine.shape == pictures.shape
    assert not torch.allclose(fine[0], fine[1])
    assert not torch.allclose(fine, before)


def test_the_time_is_seen():
    module, pictures = task_of(TEXT).module, torch.randn(1, 1, 8, 8)
    early, late = (module(pictures, torch.tensor([time])) for time in (0.0, TIMES - 1.0))
    assert not torch.allclose(early, late)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=7", "images of 7 x 7"),
        ("width=6", "U-Net of width 6"),
        ("schedule=square", "no schedule of noise `square`"),
    ],
)
def test_what_cannot_be_had(options, message):
    with pytest.raises(MetaTrainError, match=message):
        task_of(f"unet:{options}")
