import os

import pytest

from meta_train.shared_files import claim

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
