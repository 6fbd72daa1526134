import sys

import pytest

from meta_train.board.panel import due, open_writer
from tests.meta_train.board.event_files import scalars


def test_the_last_step_is_due_whatever_the_interval():
    assert [step for step in range(1, 8) if due(step, 3, 7)] == [3, 6, 7]
    assert not any(due(step, 0, 7) for step in range(8))


def test_a_folder_opened_again_forgets_what_is_yet_to_come(tmp_path):
    for first, values in ((0, (1.0, 2.0, 3.0)), (1, (5.0, 6.0))):
        with open_writer(tmp_path, first) as writer:
            for step, value in enumerate(values, first):
                writer.add_scalar("curve", value, step)
    assert scalars(tmp_path) == {"curve": [(0, 1.0), (1, 5.0), (2, 6.0)]}


def test_a_missing_tensorboard_is_an_import_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError):
        open_writer(tmp_path, 0)
