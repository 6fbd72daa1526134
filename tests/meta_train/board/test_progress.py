from statistics import fmean

import pytest
import torch

from meta_train.board.cards import (
    BY_FAMILY,
    FEW,
    INNER,
    META_LOSS,
    OUTER,
    PROGRESS,
    UNFOLDED,
    inner_group,
    speed_up_group,
)
from meta_train.board.options import BoardOptions
from tests.meta_train.board.event_files import go_on, quiet, scalars, trainer

TWO_FAMILIES = ("mlp:width=3,depth=1,batch=4", "quadratic")


def test_curves_hold_what_the_trainer_reports(tmp_path):
    run = trainer(tmp_path, board=quiet())
    reports = go_on(run)
    found = {tag.removeprefix(f"{OUTER}/"): points for tag, points in scalars(tmp_path).items()}
    smooth = found.pop(META_LOSS)
    assert [step for step, _ in smooth] == [1, 2, 3, 4]
    losses = [report.meta_loss for report in reports]
    # Inner runs begin anew after at most 8 steps, which are 4 outer steps.
    means = [fmean(losses[: number + 1]) for number in range(4)]
    assert [value for _, value in smooth] == pytest.approx(means)
    expected = {
        "meta-loss, not smoothed": losses,
        "norm of meta-gradient": [report.norm for report in reports],
        "outer lr": [report.rate for report in reports],
        "runs diverged": [0, 0, 0, 0],
        "runs diverged, total": [0, 0, 0, 0],
        "speed, inner steps per s": [2 / 0.5] * 4,
        "total inner steps": [2, 4, 6, 8],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert [value for _, value in found[name]] == pytest.approx(values), name


def test_families_have_meta_losses_of_their_own(tmp_path):
    run = trainer(tmp_path, board=quiet(), families=TWO_FAMILIES, stacks=4)
    (report,) = go_on(run, until=1)
    assert len({task.partition("(")[0] for task in report.by_task}) == 2
    found = scalars(tmp_path)
    for family in ("mlp", "quadratic"):
        of_family = [loss for task, loss in report.by_task.items() if task.startswith(family)]
        assert found[f"{BY_FAMILY}/meta-loss, {family}"] == [(1, pytest.approx(fmean(of_family)))]


def test_points_further_apart_are_means_and_sums(tmp_path):
    run = trainer(tmp_path, board=quiet(scalars=3))
    reports = go_on(run)
    losses = [report.meta_loss for report in reports]
    found = scalars(tmp_path)
    assert found[f"{OUTER}/meta-loss, not smoothed"] == [
        (3, pytest.approx(fmean(losses[:3]))),
        (4, pytest.approx(losses[3])),
    ]
    assert found[f"{OUTER}/speed, inner steps per s"] == [(3, 4.0), (4, 4.0)]


def test_diverged_runs_are_counted_also_over_a_resume(tmp_path):
    run = trainer(tmp_path, board=BoardOptions(histograms=0, every=0))
    run.stacks[0].particles.runs.parameters["1.weight"].fill_(torch.nan)
    go_on(run, until=2)
    again = trainer(tmp_path, board=quiet())
    again.load_state_dict(run.state_dict())
    go_on(again)
    found = scalars(tmp_path)
    assert [value for _, value in found[f"{OUTER}/runs diverged"]] == [1, 0, 0, 0]
    assert [value for _, value in found[f"{OUTER}/runs diverged, total"]] == [1, 1, 1, 1]


@pytest.mark.parametrize("tasks", range(1, 9))
def test_at_most_nine_cards_are_before_the_fold(tasks):
    inner = sum(inner_group(place) == INNER for place in range(tasks))
    each = tasks if tasks > 1 and speed_up_group(tasks) == PROGRESS else 0
    assert inner + each + len(("speed-up", "final loss", "meta-loss")) <= 9
    assert (inner, each > 0) == (min(tasks, UNFOLDED), 1 < tasks <= FEW)
