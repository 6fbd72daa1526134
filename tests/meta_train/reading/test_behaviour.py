"""What recurrent networks do: sequences, answers, and which of them count."""

import pytest
import torch

from meta_train.data.dataset import RawImages
from meta_train.errors import MetaTrainError
from meta_train.reading.behaviour import Behaviour, Digits, Words, observer_of
from meta_train.zoo.languages import BEGIN, END, TOKENS
from meta_train.zoo.tiles import rotated, tiled
from ngopt.encoders.recurrent import LSTMs
from tests.encoders.recurrent_networks import speakers


def lstms(inputs, outputs):
    sizes = {"inputs": inputs, "outputs": outputs, "dtype": torch.float32}
    return LSTMs.of(speakers(count=3, **sizes))


def seeded():
    return torch.Generator().manual_seed(0)


def test_answers_are_those_to_what_was_read():
    networks = lstms(TOKENS, TOKENS)
    seen = Words(9).watch(networks, 4, seeded(), True)
    assert seen.read.shape == (3, 4, 9, TOKENS)
    torch.testing.assert_close(seen.answers, networks.run(seen.read).log_softmax(-1))
    assert (seen.read[:, :, 0].argmax(-1) == BEGIN).all()


def test_answers_after_the_end_of_a_word_do_not_count():
    seen = Words(9).watch(lstms(TOKENS, TOKENS), 40, seeded(), True)
    tokens = seen.read.argmax(-1)
    for read, counted in zip(tokens.flatten(0, 1), seen.counted.flatten(0, 1), strict=True):
        ends = (read == END).nonzero().flatten().tolist()
        first = ends[0] if ends else 9
        assert counted.tolist() == [place < first for place in range(9)]
    assert not seen.counted.all()


def test_the_mean_is_over_answers_that_count():
    counted = torch.tensor([[[True, True, False]], [[True, False, False]]])
    each = torch.tensor([[[1.0, 3.0, 100.0]], [[5.0, 100.0, 100.0]]])
    seen = Behaviour(torch.empty(2, 1, 3, 1), torch.empty(2, 1, 3, 1), counted)
    assert seen.mean(each).tolist() == [2.0, 5.0]


@pytest.fixture
def pictures(monkeypatch):
    generator = seeded()
    images = torch.randint(256, (2, 1, 28, 28), generator=generator, dtype=torch.uint8)
    raw = RawImages(images[:1], torch.zeros(1).long(), images[1:], torch.zeros(1).long())
    monkeypatch.setattr("meta_train.reading.behaviour.digits", lambda: raw)
    return raw


@pytest.mark.parametrize("train", [True, False])
def test_digits_are_turned_by_an_angle_each_and_those_for_tests_are_others(pictures, train):
    networks = lstms(196, 10)
    seen = Digits(14).watch(networks, 2, seeded(), train)
    generator = seeded()
    torch.randint(1, (3, 2), generator=generator)
    angles = 360 * torch.rand((3, 2), generator=generator)
    image = (pictures.training if train else pictures.test)[0, 0] / 255
    expected = tiled(rotated(image.expand(3, 2, 28, 28), angles), 14)
    torch.testing.assert_close(seen.read, expected)
    torch.testing.assert_close(seen.answers, networks.run(expected).log_softmax(-1))
    assert seen.counted.all()


def test_networks_of_another_kind_are_refused(zoo):
    with pytest.raises(MetaTrainError, match="no recurrent networks, but `inr`"):
        observer_of(zoo)
