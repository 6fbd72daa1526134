import os

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.shared_files import claim, usable_folder, write_tensors

pytest.importorskip("fcntl")


def test_a_file_is_claimed_once_at_a_time(tmp_path):
    path = tmp_path / "runs" / "one.json"
    other_path = tmp_path / "runs" / "two.json"
    with claim(path) as first, claim(path) as second, claim(other_path) as other:
        assert (first, second, other) == (True, False, True)
    with claim(path) as again:
        assert again


def test_a_claim_ends_with_its_process(tmp_path):
    path = tmp_path / "one.json"
    child = os.fork()
    if not child:
        with claim(path):
            os._exit(0)
    os.waitpid(child, 0)
    with claim(path) as free:
        assert free


def test_folders_are_made(tmp_path):
    assert usable_folder(tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(MetaTrainError, match="cannot make the folder"):
            usable_folder(folder)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(MetaTrainError, match="cannot write to the folder"):
        usable_folder(tmp_path)


def test_tensors_have_the_usual_permissions(tmp_path):
    write_tensors(tmp_path / "one.safetensors", {"a": torch.zeros(2)}, {})
    (tmp_path / "usual").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("one.safetensors", "usual")]
    assert modes[0] == modes[1]
