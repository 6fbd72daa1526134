import pytest

from meta_train.zoo.rnn import run_rnn
from tests.meta_train.reading.tiny import images_zoo
from tests.meta_train.zoo.tiny_rnn import tiny


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """A tiny zoo of images in a folder of its own."""
    return images_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def rnn_zoo(tmp_path_factory):
    """16 LSTMs on 8 languages, three snapshots each: 24 to train, 12 to test on."""
    return run_rnn(tiny(tmp_path_factory.mktemp("rnn_zoo")), lambda text: None)
