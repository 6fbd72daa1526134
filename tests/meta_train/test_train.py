"""What a run of meta-training says: where results are, that it is finished, what Ctrl-C saved."""

from dataclasses import replace

import pytest

from meta_train import checkpoint
from meta_train.errors import MetaTrainError
from meta_train.train import meta_train
from meta_train.trainer import MetaTrainer
from tests.meta_train.board.event_files import TINY, quiet

SHORT = replace(TINY, board=quiet(scalars=100), rule="FF", frozen=())


def said(config):
    lines = []
    meta_train(config, lines.append)
    return "\n".join(lines)


def test_a_run_says_where_results_are_and_when_it_is_finished(tmp_path):
    config = replace(SHORT, folder=tmp_path / "run")
    first = said(config)
    assert "Going on" not in first
    assert f"Checkpoints and curves are in {config.folder}" in first
    assert f"meta_train export {config.folder}" in first
    again = said(config)
    assert "is finished: it has done 4 outer steps" in again
    assert "Going on" not in again
    more = said(replace(config, steps=5))
    assert "Going on from outer step 4" in more


def test_ctrl_c_saves_a_checkpoint_and_says_so(tmp_path, monkeypatch):
    step, config = MetaTrainer.step, replace(SHORT, folder=tmp_path, checkpoint_every=100)

    def pressed(self):
        if self.step_number == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(MetaTrainer, "step", pressed)
    with pytest.raises(KeyboardInterrupt, match="is of outer step 3 of 4: the same command"):
        said(config)
    assert checkpoint.latest(tmp_path)[0] == 3
    monkeypatch.setattr(MetaTrainer, "step", step)
    assert "Going on from outer step 3" in said(config)


def test_without_a_step_there_is_no_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(MetaTrainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt, match="there is no checkpoint"):
        said(replace(SHORT, folder=tmp_path))
    assert checkpoint.latest(tmp_path) is None


def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MetaTrainError, match="cannot make the folder"):
        said(replace(SHORT, folder=tmp_path / "file"))
