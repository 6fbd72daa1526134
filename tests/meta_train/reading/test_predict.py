"""The command `predict`, from a zoo to a report."""

import json

import pytest
import torch

from meta_train.cli import main, read
from meta_train.errors import MetaTrainError
from meta_train.reading.options import FitOptions
from meta_train.reading.predict import PredictOptions, bench, run_predict
from meta_train.reading.targets import target_of
from tests.meta_train.reading.tiny import with_columns

FIT = FitOptions(epochs=2, batch=10, evaluations=2, device="cpu")
READERS = ("moments", "moments:width=3")


def options(zoo, out, **more):
    given = {"encoders": READERS, "seeds": (0, 1), "fit": FIT, "resamples": 50, **more}
    return PredictOptions(zoo=zoo.folder, out=out, **given)


def silent(text):
    """Show nothing."""


@pytest.fixture(scope="module")
def done(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("predict")
    shown = []
    return out, run_predict(options(zoo, out), shown.append), shown


def test_baselines_stand_beside_readers(done):
    _, table, shown = done
    assert [row.reader for row in table.rows] == ["constant", *READERS]
    assert [row.baseline for row in table.rows] == [True, False, False]
    assert table.rows[1].seeds == (0, 1)
    assert "constant (baseline)" in shown[0]


def test_each_pair_of_readers_is_compared(done):
    _, table, shown = done
    pairs = [(d.reader, d.other) for d in table.differences]
    assert pairs == [
        ("moments", "constant"),
        ("moments:width=3", "constant"),
        ("moments:width=3", "moments"),
    ]
    for difference in table.differences:
        assert difference.interval.low <= difference.interval.high
    assert "Row minus column" in shown[0]


def test_report_pictures_and_curves_are_written(done):
    out, table, _ = done
    report = json.loads((out / "report.json").read_text())
    assert report["rows"][1]["reader"] == "moments"
    assert report["command"]
    assert (out / "report.md").read_text().startswith("# Predict `class`")
    for name in ("curves.png", "confusion.png"):
        assert (out / name).stat().st_size > 1000
    assert list((out / "moments" / "seed-0").glob("events*"))
    assert list((out / "baselines" / "constant").glob("events*"))
    assert table.rows


def test_finished_runs_are_not_repeated(zoo, done):
    out, table, _ = done
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.checkpoint")}
    assert run_predict(options(zoo, out), silent) == table
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.checkpoint")} == before


def test_a_lost_result_is_made_again_from_its_checkpoint(zoo, done):
    out, table, _ = done
    (out / "moments" / "seed-1" / "result.json").write_text('{"cut')
    assert run_predict(options(zoo, out), silent) == table


def test_a_report_trains_nothing(zoo, done, tmp_path):
    out, _, _ = done
    more = options(zoo, out, seeds=(0, 1, 2), report=True)
    shown = []
    assert [row.seeds for row in run_predict(more, shown.append).rows] == [(0,), (0, 1), (0, 1)]
    assert "Not finished: 4 of 6 runs" in shown[0]
    with pytest.raises(MetaTrainError, match="there are no results"):
        run_predict(options(zoo, tmp_path, report=True), silent)


def test_another_target_in_the_same_folder_is_refused(zoo, done):
    out, _, _ = done
    with pytest.raises(MetaTrainError, match="target: 'class', now 'psnr'"):
        run_predict(options(zoo, out, target="psnr"), silent)


def test_states_are_chosen_without_the_test_split(zoo, tmp_path):
    """Whatever is said to be true of test networks, the same state is kept."""
    accuracy = torch.rand(60)
    wrong = accuracy.clone()
    wrong[zoo.split("test")] = 1 - accuracy[zoo.split("test")]
    found = []
    for name, values in (("true", accuracy), ("wrong", wrong)):
        other = with_columns(zoo, accuracy=values)
        chosen = options(zoo, tmp_path / name, target="accuracy", seeds=(0,))
        target = target_of(other, "accuracy")
        bench(chosen, other, target).run(silent)
        path = tmp_path / name / "moments" / "seed-0" / "result.json"
        found.append(json.loads(path.read_text())["result"])
    one, other = found
    assert one["predicted"] == other["predicted"]
    assert one["step"] == other["step"]
    tests = [[entry["test"] for entry in result["history"]] for result in found]
    assert tests[0] != tests[1]


def test_numbers_are_predicted_beside_hyperparameters(zoo, tmp_path):
    lr = torch.rand(60)
    other = with_columns(zoo, learning_rate=lr, accuracy=lr)
    chosen = options(zoo, tmp_path, target="accuracy", seeds=(0,))
    table = bench(chosen, other, target_of(other, "accuracy")).run(silent)
    assert [row.reader for row in table.rows][:2] == ["constant", "hyper-parameters"]
    assert table.scores == ("Kendall tau", "R2", "squared error")
    assert (tmp_path / "scatter.png").stat().st_size > 1000


def test_wrong_names_end_the_command_with_what_to_do(zoo, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        (["--zoo", str(tmp_path)], "there is no finished zoo"),
        (["--zoo", str(zoo.folder), "--target", "colour"], "there is no target `colour`"),
        (["--zoo", str(zoo.folder), "--encoders", "nope"], "there is no encoder `nope`"),
        (["--zoo", str(zoo.folder), "--seeds", "1", "1"], "each once"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["predict", *arguments, *out])
        assert message in str(ended.value)
    assert not (tmp_path / "out").exists()


def test_options_of_training_have_short_names():
    chosen = read(["predict", "--zoo", "z", "--minutes", "3", "--augment.noise", "0.1"])
    assert chosen.fit.minutes == 3
    assert chosen.augment.noise == 0.1
