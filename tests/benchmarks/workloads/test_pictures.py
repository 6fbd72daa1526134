import pytest
import torch

from benchmarks.workloads.pictures import grid, psnr, unit_range


def test_pixels_of_training_images_fill_their_range():
    data = unit_range("digits", 8)
    pixels, _ = data.splits["train"]
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_places_of_pixels_are_in_the_order_of_an_image():
    places = grid(2, 4)
    assert places[:5].tolist() == [
        [-0.5, -0.75],
        [-0.5, -0.25],
        [-0.5, 0.25],
        [-0.5, 0.75],
        [0.5, -0.75],
    ]


def test_psnr_of_an_error_of_a_tenth_is_20_db():
    assert psnr(torch.full((3,), 0.6), torch.full((3,), 0.5)) == pytest.approx(20)
