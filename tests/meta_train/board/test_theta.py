import pytest

from meta_train.board.cards import THETA, THETA_CHANGE
from meta_train.board.options import BoardOptions
from tests.meta_train.board.event_files import events, go_on, trainer

OFTEN = BoardOptions(histograms=3, every=0)


def test_histograms_are_of_theta_and_its_change(tmp_path):
    run = trainer(tmp_path, board=OFTEN)
    start = {name: weight.detach().clone() for name, weight in run.outer.theta.items()}
    go_on(run)
    found = events(tmp_path)
    for name, weight in run.outer.theta.items():
        points = found.Histograms(f"{THETA}/{name}")
        assert [point.step for point in points] == [0, 3, 4]
        first, last = points[0].histogram_value, points[-1].histogram_value
        assert (first.min, first.max) == (start[name].min(), start[name].max())
        assert (last.min, last.max) == (weight.min(), weight.max())
        moved = found.Histograms(f"{THETA_CHANGE}/{name}")
        assert [point.step for point in moved] == [3, 4]
        change = weight.detach() - start[name]
        total = float(change.double().sum())
        assert moved[-1].histogram_value.sum == pytest.approx(total, abs=1e-6)
    assert any(not weight.equal(start[name]) for name, weight in run.outer.theta.items())


def test_a_resumed_run_still_knows_where_theta_began(tmp_path):
    run = trainer(tmp_path, board=OFTEN)
    start = {name: weight.detach().clone() for name, weight in run.outer.theta.items()}
    go_on(run, until=2)
    again = trainer(tmp_path, board=OFTEN)
    again.load_state_dict(run.state_dict())
    go_on(again)
    found = events(tmp_path)
    name = "head.output.weight"
    last = found.Histograms(f"{THETA_CHANGE}/{name}")[-1]
    change = again.outer.theta[name].detach() - start[name]
    assert (last.step, last.histogram_value.max) == (4, change.max())
    assert [point.step for point in found.Histograms(f"{THETA}/{name}")] == [0, 3, 4]
