import json
import sys
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta_train.cache import cached

RESULT = {"losses": [1.5, 0.1 + 0.2, 1e-30, float("inf")], "best": 3, "none": None}


class Counted:
    """Computes the result, and counts how often."""

    def __init__(self, result=RESULT):
        self.result, self.calls = result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def test_computes_once(tmp_path):
    compute = Counted()
    first = cached(tmp_path / "new", "adam", {"steps": 3}, compute)
    second = cached(tmp_path / "new", "adam", {"steps": 3}, compute)
    assert first == second == RESULT
    assert compute.calls == 1


def test_other_keys_are_other_files(tmp_path):
    results = [cached(tmp_path, "adam", {"n": n}, Counted(n)) for n in (1, 2, 1)]
    assert results == [1, 2, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_tuples_in_keys_are_lists(tmp_path):
    compute = Counted()
    for key in ({"shape": (1, 2)}, {"shape": [1, 2]}):
        cached(tmp_path, "adam", key, compute)
    assert compute.calls == 1


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compute = Counted()
    assert cached(None, "adam", {}, compute) == cached(None, "adam", {}, compute) == RESULT
    assert compute.calls == 2
    assert not list(tmp_path.iterdir())


def test_files_tell_command_and_key(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["meta train", "evaluate"])
    cached(tmp_path, "runs/x:width=1, tuned", {"n": 1}, Counted())
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("runs_x_width_1_tuned-")
    content = json.loads(path.read_text())
    assert content["command"] == "'meta train' evaluate"
    assert content["key"] == {"n": 1}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"key": {"n": 1}}', "\0"])
def test_files_of_something_else_are_computed_again(tmp_path, content):
    cached(tmp_path, "adam", {"n": 1}, Counted())
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    again = Counted()
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .*; computing it again"):
        assert cached(tmp_path, "adam", {"n": 1}, again) == RESULT
    assert again.calls == 1
    assert cached(tmp_path, "adam", {"n": 1}, again) == RESULT
    assert again.calls == 1


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_never_changes_the_result(tmp_path, data):
    cached(tmp_path, "adam", {"n": 1}, Counted())
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a byte of the command may change unnoticed
        assert cached(tmp_path, "adam", {"n": 1}, Counted()) == RESULT


def test_what_other_processes_are_writing_is_left_alone(tmp_path):
    cached(tmp_path, "adam", {"n": 1}, Counted())
    (path,) = tmp_path.iterdir()
    theirs = path.with_name(f"{path.name}.1.partial")
    theirs.write_text("half")
    path.unlink()
    assert cached(tmp_path, "adam", {"n": 1}, Counted()) == RESULT
    assert theirs.read_text() == "half"
    assert {file.name for file in tmp_path.iterdir()} == {path.name, theirs.name}
