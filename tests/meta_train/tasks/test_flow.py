import math

import torch
from torch.func import jacrev, vmap

from meta_train.data.images import images
from meta_train.tasks.flow import LEVELS, MARGIN, Flow, bits_per_pixel, chequered, inputs_of
from meta_train.tasks.vae import brightness
from tests.meta_train.tasks.table import stacked, task_of

TEXT = "flow:size=4,width=8,hidden=1,depth=3,batch=16"


def volume_of(function, at):
    """Log of the volume of a map of vectors (batch, n), by its Jacobian."""
    return torch.linalg.slogdet(vmap(jacrev(function))(at)).logabsdet


def test_the_volume_is_that_of_the_jacobian():
    flow, pixels = Flow(7, 6, 2, 3, "tanh").double(), torch.randn(4, 7).double()
    expected = volume_of(lambda x: flow(x.unsqueeze(0))[0][0], pixels)
    torch.testing.assert_close(flow(pixels)[1], expected)


def test_every_pixel_is_moved():
    flow, pixels = Flow(6, 6, 1, 2, "relu"), torch.randn(1, 6)
    with torch.no_grad():
        assert (flow(pixels)[0] != pixels).all()


def test_the_volume_of_the_inputs_is_that_of_the_jacobian():
    levels = torch.randint(LEVELS, (5, 6)).double()
    noise = torch.rand(5, 6).double()
    inputs, volume = inputs_of(levels, noise)
    expected = volume_of(lambda x: inputs_of(x, torch.zeros(6).double())[0], levels + noise)
    torch.testing.assert_close(volume, expected)
    back = (inputs.sigmoid() - MARGIN) / (1 - 2 * MARGIN) * LEVELS
    torch.testing.assert_close(back.floor(), levels)


def test_levels_that_are_all_alike_take_their_logarithm():
    """A flow whose codes follow the normal distribution exactly, for levels drawn evenly."""
    share = (torch.arange(1000).double() + 0.5).unsqueeze(1) / 1000
    codes = math.sqrt(2) * torch.erfinv(2 * share - 1)
    whole = codes.square().sum(-1) / 2 + math.log(2 * math.pi) / 2 - math.log(LEVELS)
    volume = torch.randn(1000).double()
    bits = bits_per_pixel((codes, whole - volume), volume)
    torch.testing.assert_close(bits, torch.tensor(math.log2(LEVELS)).double())


def test_an_untrained_flow_takes_a_few_bits():
    task, parameters, context, batch = stacked(TEXT)
    bits = torch.vmap(task.loss)(parameters, context, batch)
    assert (bits > 3).all()
    assert (bits < 8).all()


def test_noise_is_drawn_with_the_batch():
    task, _, _, (inputs, volume) = stacked(TEXT)
    assert inputs.shape == (3, 16, 16)
    assert volume.shape == (3, 16)
    noise = (inputs.sigmoid() - MARGIN) / (1 - 2 * MARGIN) * LEVELS % 1
    assert abs(noise.mean() - 0.5) < 0.05
    assert task.data.splits["train"][0].unique().tolist() == list(range(LEVELS))


def test_halves_are_the_colours_of_a_chessboard():
    assert chequered(2, 1).tolist() == [0, 3, 1, 2]
    assert chequered(2, 2).tolist() == [0, 3, 4, 7, 1, 2, 5, 6]
    levels = task_of("flow:size=4").data.splits["test"][0]
    pixels = brightness(images("digits", 4)).splits["test"][0][:, chequered(4, 1)]
    assert (levels / (LEVELS - 1) - pixels).abs().max() < 0.51 / (LEVELS - 1)
