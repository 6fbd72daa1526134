from pathlib import Path

import pytest

from meta_train.data.folder import data_file, data_folder
from meta_train.errors import MetaTrainError


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    assert data_folder() == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_the_folder_is_in_the_cache_by_default(value, monkeypatch):
    if value is None:
        monkeypatch.delenv("NGOPT_DATA", raising=False)
    else:
        monkeypatch.setenv("NGOPT_DATA", value)
    assert data_folder() == Path.home() / ".cache" / "ngopt"


def test_a_file_that_is_there(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.gz").touch()
    assert data_file(tmp_path, "a/b.gz", "https://example.org") == tmp_path / "a" / "b.gz"


def test_a_missing_file_is_named_with_its_source(tmp_path):
    with pytest.raises(MetaTrainError, match=r"example\.org.*NGOPT_DATA") as error:
        data_file(tmp_path, "a/b.gz", "https://example.org")
    assert str(tmp_path / "a" / "b.gz") in str(error.value)
