import math
import re
from statistics import fmean

import pytest
import torch

from meta_train.baselines import opponent, tuned
from meta_train.board.cards import (
    ANGLE,
    BY_FAMILY,
    CORRECTION,
    INNER,
    LOSS,
    PROGRESS,
    SCALE,
    SPEED,
    UPDATE,
    layout,
    over,
)
from meta_train.board.evaluation import CURVES, speed_up
from meta_train.board.options import BoardOptions
from meta_train.board.tasks import board_tasks
from meta_train.curves import Budget, Curve, Setting, curves
from tests.meta_train.board.event_files import events, go_on, scalars, trainer

BOARD = BoardOptions(
    histograms=0,
    every=1,
    tasks=("mlp:width=3,depth=1,activation=tanh,batch=4", "quadratic"),
    inner_steps=5,
    problems=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with evaluations after 0, 1, ... 5 outer steps."""
    run = trainer(tmp_path_factory.mktemp("run"), steps=5, board=BOARD)
    go_on(run)
    return run


def ours(step):
    return f"after {step:05} outer steps"


def inner(run):
    return {path.name: scalars(path) for path in (run.config.folder / CURVES).iterdir()}


def test_a_few_thetas_and_the_opponents_have_curves(finished):
    names = {ours(step) for step in (0, 1, 2, 4, 5)}
    assert inner(finished).keys() == names | {"adam, tuned"}


def test_inner_curves_are_mean_losses_over_inner_steps(finished):
    tasks, budget = board_tasks(finished.config, finished.world.device), Budget(5, 2, batches=1)
    found = inner(finished)
    for label, task in tasks.items():
        (curve,) = curves(finished.rule, task, [Setting(finished.config.unroll.lr)], budget)
        expected = [curve.untrained.mean(), *curve.losses.mean(1)]
        points = found[ours(5)][f"{INNER}/{label}"]
        assert [step for step, _ in points] == [0, 1, 2, 3, 4, 5]
        assert [value for _, value in points] == pytest.approx([math.log10(x) for x in expected])
        best = tuned(opponent("adam"), task, budget)
        theirs = [value for _, value in found["adam, tuned"][f"{INNER}/{label}"]]
        assert theirs[1:] == pytest.approx([math.log10(x) for x in best.curve.losses.mean(1)])


def test_both_sides_begin_at_the_same_loss(finished):
    found = inner(finished)
    for label in ("mlp", "quadratic"):
        first, *others = (curves[f"{INNER}/{label}"][0] for curves in found.values())
        assert others == [pytest.approx(first, rel=1e-5)] * len(others)


def test_final_losses_are_compared_after_each_evaluation(finished):
    found = scalars(finished.config.folder)
    by_task = []
    for label, task in board_tasks(finished.config, finished.world.device).items():
        points = found[f"{BY_FAMILY}/{over('adam', LOSS, label)}"]
        assert [step for step, _ in points] == [0, 1, 2, 3, 4, 5]
        (curve,) = curves(finished.rule, task, [Setting()], Budget(5, 2, batches=1))
        best = tuned(opponent("adam"), task, Budget(5, 2, batches=1))
        by_task.append(float(curve.final.mean() / best.curve.final.mean()))
        assert points[-1][1] == pytest.approx(by_task[-1])
    mean = found[f"{PROGRESS}/{over('adam', LOSS)}"][-1][1]
    assert mean == pytest.approx((by_task[0] * by_task[1]) ** 0.5)


def test_a_line_at_1_lies_over_each_ratio(finished):
    shown = {tag for tag in scalars(finished.config.folder) if " over adam" in tag}
    line = {tag: v for tag, v in inner(finished)["adam, tuned"].items() if " over adam" in tag}
    assert line.keys() == shown
    assert all(points == [(0, 1.0), (5, 1.0)] for points in line.values())


def test_names_of_cards_differ_where_tensorboard_still_shows_them(finished):
    names = [tag.partition("/")[2] for tag in scalars(finished.config.folder)]
    assert len({name[:17] for name in names}) == len(set(names))


def test_charts_of_an_opponent_are_not_those_of_another():
    (found,) = layout(("adam", "adamw"))["against opponents"]["speed-up over adam"][1]
    shown = [over(name, SPEED, task) for name in ("adam", "adamw") for task in ("", "mlp")]
    assert [name for name in shown if re.match(found, f"{PROGRESS}/{name}")] == shown[:2]


def test_speed_up_is_in_steps_to_the_loss_of_the_opponent(finished):
    found = scalars(finished.config.folder)
    each = (f"{PROGRESS}/{over('adam', SPEED, task)}" for task in ("mlp", "quadratic"))
    mean = fmean(found[tag][-1][1] for tag in each)
    assert found[f"{PROGRESS}/{over('adam', SPEED)}"][-1][1] == pytest.approx(mean)


def curve(losses):
    return Curve(torch.tensor(losses)[:, None], torch.ones(1), {}, torch.zeros(1, dtype=bool))


def test_speed_up_of_simple_curves():
    slow = curve([0.9, 0.8, 0.7, 0.6])
    assert speed_up(curve([0.8, 0.6, 0.5, 0.5]), slow) == 2.0
    assert speed_up(curve([0.9, 0.9, 0.9, 0.9]), slow) == 0.0


def test_cards_say_what_they_are(finished):
    loaded = events(finished.config.folder)
    said = loaded.SummaryMetadata(f"{PROGRESS}/{over('adam', SPEED)}").summary_description
    assert "Above 1 the rule is faster" in said


def test_the_settings_of_opponents_are_told(finished):
    loaded = events(finished.config.folder / CURVES / "adam, tuned")
    (text,) = loaded.Tensors("settings/text_summary")
    table = text.tensor_proto.string_val[0].decode()
    task = board_tasks(finished.config, finished.world.device)["quadratic"]
    assert (
        f"| quadratic | {tuned(opponent('adam'), task, Budget(5, 2, batches=1)).setting} |" in table
    )


def test_diagnostics_of_one_run_are_beside_its_curve(finished):
    curves = inner(finished)[ours(4)]
    for tag in (f"{UPDATE}/1.weight", f"{ANGLE}/1.weight", f"{SCALE}/1.weight"):
        assert [step for step, _ in curves[tag]] == [1, 2, 3, 4, 5]
    pictures = events(finished.config.folder).Images(f"{CORRECTION}/3.weight")
    assert [picture.step for picture in pictures] == [0, 1, 2, 4, 5]


def test_without_opponents_only_ours_is_shown(tmp_path):
    board = BoardOptions(histograms=0, every=9, inner_steps=2, problems=1, opponents=())
    run = trainer(tmp_path, board=board)
    go_on(run, until=1)
    assert inner(run).keys() == {ours(0)}
    assert not [tag for tag in scalars(tmp_path) if "adam" in tag and "over" in tag]
