import sys

import torch

from meta_train.board.cards import GRAPH
from meta_train.board.options import BoardOptions
from meta_train.board.tasks import board_tasks
from ngopt.monitor.images import graph_image
from tests.meta_train.board.event_files import ALONE, events, go_on, quiet, trainer

SEVERAL = ("mlp:width=3,depth=1", "quadratic", "mlp:width=4,depth=1")


def tasks(**options):
    return board_tasks(trainer(None, **options).config, ALONE.device)


def test_tasks_are_those_of_the_run_unless_others_are_asked_for():
    (own,) = tasks().values()
    assert own.name.startswith("mlp(data=digits, size=8, width=3,")
    assert list(tasks(board=BoardOptions(tasks=("quadratic",)))) == ["quadratic"]


def test_tasks_of_one_family_are_numbered():
    found = tasks(board=BoardOptions(tasks=SEVERAL))
    assert list(found) == ["mlp 1", "quadratic", "mlp 2"]
    assert "width=4" in found["mlp 2"].name


def test_the_same_task_stands_there_once():
    assert list(tasks(board=BoardOptions(tasks=(SEVERAL[0], SEVERAL[0])))) == ["mlp"]


def test_choices_are_the_same_in_every_process():
    wide = BoardOptions(tasks=("mlp:width=3|4|5|6|7|8",))
    torch.manual_seed(1)
    (first,) = tasks(board=wide).values()
    torch.manual_seed(2)
    (second,) = tasks(board=wide).values()
    assert first.name == second.name


def test_graphs_are_drawn_once(tmp_path):
    run = trainer(tmp_path, board=quiet())
    go_on(run, until=2)
    again = trainer(tmp_path, board=quiet())
    again.load_state_dict(run.state_dict())
    go_on(again)
    (picture,) = events(tmp_path).Images(f"{GRAPH}/mlp")
    expected = graph_image(run.stacks[0].task.graph)
    assert (picture.step, picture.height, picture.width) == (0, *expected.shape[1:])


def test_without_matplotlib_graphs_are_described(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    go_on(trainer(tmp_path, board=quiet()), until=1)
    found = events(tmp_path)
    assert f"{GRAPH}/mlp" not in found.Tags()["images"]
    (text,) = found.Tensors(f"{GRAPH}/mlp/text_summary")
    assert b"mlp(data=digits" in text.tensor_proto.string_val[0]
