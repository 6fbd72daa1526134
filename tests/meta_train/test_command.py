import sys

import pytest

from meta_train.command import command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/a/b/meta_train/__main__.py", "tasks"], "python -m meta_train tasks"),
        (["/a/b/sweep.py", "--rule", "NGT:width=1|2"], "sweep.py --rule 'NGT:width=1|2'"),
        ([""], "''"),
    ],
)
def test_says_what_to_type(arguments, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    assert command() == expected
