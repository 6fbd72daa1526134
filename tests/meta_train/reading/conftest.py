import pytest

from tests.meta_train.reading.tiny import images_zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """A tiny zoo of images in a folder of its own."""
    return images_zoo(tmp_path_factory.mktemp("zoo"))
