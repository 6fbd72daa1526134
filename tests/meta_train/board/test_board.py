import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from meta_train.board.board import open_board
from meta_train.board.cards import INNER, META_LOSS, NEURONS, OUTER, PROGRESS
from meta_train.board.evaluation import CURVES
from meta_train.board.options import BoardOptions
from meta_train.distributed import World
from meta_train.trainer import MetaTrainer
from tests.meta_train.board.event_files import TINY, events, go_on, quiet, scalars, step, trainer


def theta(run):
    return {name: weight.detach() for name, weight in run.rule.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_theta_is_bitwise_the_same_with_and_without_a_board(tmp_path):
    watched, alone = trainer(tmp_path / "watched"), trainer(tmp_path / "alone")
    torch.manual_seed(0)
    go_on(watched)
    drawn = torch.rand(())
    torch.manual_seed(0)
    for _ in range(TINY.steps):
        alone.step()
    assert same(theta(watched), theta(alone))
    assert drawn == torch.rand(())


def test_a_killed_and_resumed_run_shows_each_step_once(tmp_path):
    whole, killed = trainer(tmp_path / "whole"), trainer(tmp_path / "killed")
    go_on(whole)
    with open_board(killed) as board:
        board.before(killed)
        for _ in range(2):
            board.after(killed, step(killed))
        state = deepcopy(killed.state_dict())
        board.after(killed, step(killed))  # comes after the checkpoint, and is lost
    again = trainer(tmp_path / "killed")
    again.load_state_dict(state)
    go_on(again)
    expected, found = scalars(tmp_path / "whole"), scalars(tmp_path / "killed")
    # The smoothed meta-loss begins anew.
    for tag in (f"{OUTER}/meta-loss, not smoothed", f"{PROGRESS}/speed-up over adam"):
        assert found[tag] == expected[tag]
    assert [number for number, _ in found[META_LOSS]] == [1, 2, 3, 4]
    for path in (tmp_path / "whole" / CURVES).iterdir():
        assert scalars(path) == scalars(tmp_path / "killed" / CURVES / path.name), path.name
    pictures = events(tmp_path / "killed").Images(f"{NEURONS}/h0")
    assert [picture.step for picture in pictures] == [0, 2, 4]


def test_a_run_killed_before_its_first_checkpoint_starts_its_board_anew(tmp_path):
    go_on(trainer(tmp_path), until=1)
    again = trainer(tmp_path)
    go_on(again)
    found = scalars(tmp_path)
    assert [number for number, _ in found[META_LOSS]] == [1, 2, 3, 4]
    assert [number for number, _ in found[f"{PROGRESS}/speed-up over adam"]] == [0, 2, 4]
    for name in ("after 00000 outer steps", "adam, tuned"):
        points = scalars(tmp_path / CURVES / name)[f"{INNER}/mlp"]
        assert [number for number, _ in points] == [0, 1, 2, 3, 4, 5], name


def test_what_leads_up_to_a_checkpoint_is_in_the_file_when_it_is_written(tmp_path):
    run = trainer(tmp_path, board=quiet())
    with open_board(run) as board:
        board.before(run)
        for _ in range(2):  # checkpoint_every
            board.after(run, step(run))
        assert [number for number, _ in scalars(tmp_path)[META_LOSS]] == [1, 2]


def test_only_the_main_process_has_a_board(tmp_path):
    config = replace(TINY, folder=tmp_path, stacks=2)
    second = MetaTrainer(config, World(1, 2, torch.device("cpu"), grouped=False))
    with open_board(second) as board:
        board.before(second)
        board.after(second, second.step())
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_stacked_are_not_evaluated(tmp_path):
    run = trainer(tmp_path, backend="modules", board=BoardOptions(histograms=0, every=1))
    go_on(run, until=1)
    assert META_LOSS in scalars(tmp_path)
    assert not (tmp_path / CURVES).exists()


def test_without_tensorboard_there_is_one_message_and_no_board(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = trainer(tmp_path)
    with pytest.warns(UserWarning, match="pip install tensorboard") as told:
        go_on(run)
    assert len(told) == 1
    assert run.step_number == TINY.steps
    assert list(tmp_path.iterdir()) == []
