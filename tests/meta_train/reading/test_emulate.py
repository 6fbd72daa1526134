"""The command `emulate`, from a zoo to a summary."""

import json

import pytest
import torch

from meta_train.cli import main, read
from meta_train.errors import MetaTrainError
from meta_train.reading.bench import place
from meta_train.reading.downstream import property_of
from meta_train.reading.emulate import (
    ALL,
    CONSTANT,
    EmulateOptions,
    downstream,
    emulation,
    run_emulate,
)
from meta_train.reading.emulator import read_kept
from meta_train.reading.options import FitOptions

FIT = FitOptions(epochs=2, batch=12, evaluations=2, device="cpu")
FIXED, INTERACTIVE = (f"{name}_probing:units=4,length=3" for name in ("fixed", "interactive"))


def options(zoo, out, **more):
    given = {
        "encoders": (CONSTANT, FIXED, INTERACTIVE),
        "seeds": (0, 1),
        "embedding": 3,
        "units": 5,
        "judged": 2,
        "properties": ("language", "loss"),
        "resamples": 20,
        "fit": FIT,
        "heads": FIT,
    }
    return EmulateOptions(zoo=zoo.folder, out=out, **{**given, **more})


def silent(text):
    """Show nothing."""


@pytest.fixture(scope="module")
def done(rnn_zoo, tmp_path_factory):
    out, shown = tmp_path_factory.mktemp("emulate"), []
    return out, run_emulate(options(rnn_zoo, out), shown.append), shown


def test_emulation_and_each_property_have_a_table(done):
    _, tables, _ = done
    assert list(tables) == ["emulation", "language, frozen", "loss, frozen"]
    readers = [[row.reader for row in table.rows] for table in tables.values()]
    assert readers[0] == [CONSTANT, FIXED, INTERACTIVE]
    assert readers[1] == [CONSTANT, FIXED, INTERACTIVE]
    assert readers[2] == [CONSTANT, "hyper-parameters", FIXED, INTERACTIVE]
    assert all(row.seeds == (0, 1) for row in tables["emulation"].rows)
    assert tables["language, frozen"].rows[0].baseline


def test_summary_and_pictures_are_written(done):
    out, tables, shown = done
    summary = json.loads((out / "summary.json").read_text())
    first = summary["tables"]["emulation"]["rows"][0]
    assert first["test"]["total variation"][0] == pytest.approx(
        tables["emulation"].rows[0].test["total variation"].value
    )
    text = (out / "summary.md").read_text()
    assert "emulation: total variation" in text
    assert text in shown[-1]
    for name in (
        "summary.png",
        "emulation/curves.png",
        "frozen/language/curves.png",
        "frozen/loss/scatter.png",
    ):
        assert (out / name).stat().st_size > 1000
    assert list((out / "emulation" / CONSTANT / "seed-0").glob("events*"))


def test_finished_runs_are_not_repeated(rnn_zoo, done):
    out, tables, _ = done
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.checkpoint")}
    assert before
    assert run_emulate(options(rnn_zoo, out), silent) == tables
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.checkpoint")} == before


def test_a_killed_run_ends_with_the_same_figures(rnn_zoo, done, tmp_path, monkeypatch):
    _, tables, _ = done
    from meta_train.reading import fit as fitting

    step, count = fitting._Run._step, []

    def killed(self, writer):
        count.append(1)
        if len(count) in (8, 30, 50):
            raise KeyboardInterrupt
        step(self, writer)

    monkeypatch.setattr(fitting._Run, "_step", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run_emulate(options(rnn_zoo, tmp_path), silent)
    again = run_emulate(options(rnn_zoo, tmp_path), silent)
    for task, table in tables.items():
        for row, other in zip(table.rows, again[task].rows, strict=True):
            assert (row.reader, row.test, row.spread) == (other.reader, other.test, other.spread)


def test_encoders_go_on_learning_or_start_anew(rnn_zoo, done):
    out, _, _ = done
    more = options(
        rnn_zoo,
        out,
        encoders=(FIXED,),
        seeds=(0,),
        properties=("language",),
        modes=("fine_tuned", "scratch"),
        heads=FitOptions(epochs=0.1, batch=12, evaluations=1, device="cpu"),
    )
    tables = run_emulate(more, silent)
    assert list(tables) == ["emulation", "language, fine_tuned", "language, scratch"]
    first, wanted = emulation(more, rnn_zoo), property_of(rnn_zoo, "language")
    state, _ = read_kept(place(out / "emulation", FIXED, 0))
    for mode, same in (("fine_tuned", True), ("scratch", False)):
        head = downstream(more, rnn_zoo, first, wanted, mode).build(FIXED, 0)
        own = head.encoder.state_dict()
        assert all(torch.equal(own[name], tensor) for name, tensor in state.items()) == same


def test_a_state_is_chosen_without_the_test_split(rnn_zoo, tmp_path):
    bench = emulation(options(rnn_zoo, tmp_path), rnn_zoo)
    bench.run(silent)
    for path in (tmp_path / "emulation").rglob("result.json"):
        result = json.loads(path.read_text())["result"]
        name = "total variation"
        best = min(result["history"], key=lambda entry: entry["validation"][name])
        assert result["step"] == best["step"]
        found = torch.tensor(result["predicted"]["test"]).mean()
        assert float(found) == pytest.approx(best["test"][name], rel=1e-4)


def test_all_stands_for_the_six_encoders_and_the_constant():
    assert EmulateOptions().readers == ALL
    assert len(ALL) == 7
    assert EmulateOptions(encoders=("flat", "all")).readers[:2] == ("flat", CONSTANT)


def test_the_full_scale_is_the_published_one(rnn_zoo):
    full = EmulateOptions(scale="full").scaled(rnn_zoo)
    steps_per_epoch = max(1, len(rnn_zoo.split("train")) // full.fit.batch)
    assert full.fit.epochs * steps_per_epoch == pytest.approx(100_000)
    assert (full.units, full.fit.lr, full.fit.clip) == (256, 1e-4, 0.1)
    assert "interactive_probing:units=256" in full.readers


def test_what_makes_no_sense_is_refused(rnn_zoo, zoo, tmp_path):
    for wrong in ({"embedding": 0}, {"modes": ("frozen", "frozen")}):
        with pytest.raises(MetaTrainError, match="cannot emulate"):
            EmulateOptions(**wrong)
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        (["--zoo", str(tmp_path)], "there is no finished zoo"),
        (["--zoo", str(zoo.folder)], "holds no recurrent networks"),
        (["--zoo", str(rnn_zoo.folder), "--encoders", "nope"], "there is no encoder `nope`"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["emulate", *arguments, *out])
        assert message in str(ended.value)
    assert not (tmp_path / "out").exists()


def test_options_of_training_have_short_names():
    chosen = read(["emulate", "--epochs", "3", "--heads.epochs", "4", "--modes", "scratch"])
    assert (chosen.fit.epochs, chosen.heads.epochs, chosen.modes) == (3, 4, ("scratch",))
    assert chosen.fit.clip == 0.1
