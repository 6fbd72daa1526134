import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.tasks.vae import brightness, negative_elbo
from tests.meta_train.tasks.table import stacked, task_of

TEXT = "vae:size=4,width=8,depth=1,code=3,activation=tanh,batch=16"


def test_the_loss_is_the_bound_per_pixel():
    logits, mean, log_variance = torch.randn(6, 5), torch.randn(6, 2), torch.randn(6, 2)
    pixels = torch.rand(6, 5).round()
    likelihood = Bernoulli(logits=logits).log_prob(pixels).sum(-1)
    code = Normal(mean, (log_variance / 2).exp())
    divergence = kl_divergence(code, Normal(torch.zeros(2), torch.ones(2))).sum(-1)
    expected = (divergence - likelihood).mean() / 5
    torch.testing.assert_close(negative_elbo((logits, mean, log_variance), pixels), expected)


def test_noise_moves_the_code_by_its_deviation():
    module = task_of(TEXT).module
    pixels, noise = torch.rand(2, 16), torch.randn(2, 3)
    logits, mean, log_variance = module(pixels, noise)
    torch.testing.assert_close(logits, module.decoder(mean + log_variance.exp().sqrt() * noise))


def test_noise_is_drawn_with_the_batch():
    _, _, _, (pixels, noise, targets) = stacked(TEXT)
    assert torch.equal(pixels, targets)
    assert noise.shape == (3, 16, 3)
    assert abs(noise.mean()) < 0.3
    assert 0.8 < noise.std() < 1.2


def test_brightness_is_between_that_of_the_training_pixels():
    parts = {"train": torch.tensor([[2.0, 4.0], [-1.0, 1.0]]), "test": torch.tensor([[5.0, 0.0]])}
    splits = {key: (part.view(-1, 2, 1, 1), torch.zeros(len(part))) for key, part in parts.items()}
    splits["train"] = (torch.tensor([[[[2.0]], [[-1.0]]], [[[4.0]], [[1.0]]]]), torch.zeros(2))
    found = brightness(Dataset("dots", splits)).splits
    assert found["train"][0].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert found["test"][0].tolist() == [[1.0, 0.5]]


def test_digits_are_as_bright_as_they_were():
    digits = images("digits", 8)
    found = brightness(digits)
    assert found is brightness(digits)
    assert found.classes == 0
    for split, (pixels, targets) in found.splits.items():
        assert torch.equal(pixels, targets)
        ink = 16 * pixels  # sixteen levels
        torch.testing.assert_close(ink, ink.round(), atol=1e-4, rtol=0)
        whole = digits.splits[split][0].flatten(1)
        assert torch.equal(pixels.argmax(1), whole.argmax(1))
