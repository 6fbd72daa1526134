import json
import multiprocessing

import pytest

from meta_train import cli
from meta_train.errors import MetaTrainError
from meta_train.reading import relational
from meta_train.reading.relational import RelationalOptions, dataset, run_relational, trainings

TINY = {
    "data": "digits",
    "nodes": 8,
    "width": 16,
    "graphs": 2,
    "named": ("complete", "lattice"),
    "epochs": 2,
    "batch": 64,
    "images": 200,
    "device": "cpu",
}


def options(out, **changes):
    return RelationalOptions(out=out, **{**TINY, **changes})


def run(out, **changes):
    return run_relational(options(out, **changes), echo=lambda text: None)


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet"])
def test_all_graphs_are_trained_with_all_seeds(model, tmp_path):
    points = run(tmp_path, model=model, depth=1, epochs=1, graphs=1)
    assert [point.name for point in points] == ["complete", "lattice", "0"]
    assert all(len(point.test_errors) == 2 for point in points)
    assert (tmp_path / "map.png").is_file()


def test_operations_are_matched(tmp_path):
    given = options(tmp_path)
    complete, *others = trainings(given, dataset(given))[:4]
    assert complete.width == 16
    for other in others:
        assert complete.operations <= other.operations < 1.1 * complete.operations


def test_what_is_trained_is_not_trained_again(tmp_path, monkeypatch):
    first = run(tmp_path, seeds=1)
    trained = []
    real = relational.train

    def counted(*args):
        trained.append(args)
        return real(*args)

    monkeypatch.setattr(relational, "train", counted)
    assert run(tmp_path, seeds=1) == first
    assert not trained
    more = run(tmp_path, seeds=2)
    assert len(trained) == 4
    assert [point.test_errors[:1] for point in more] == [point.test_errors for point in first]
    run(tmp_path, seeds=1, epochs=3)
    assert len(trained) == 8


def test_killed_in_a_training_it_goes_on_after_the_last_epoch(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", graphs=0, seeds=1)
    real = relational.train
    epochs = []

    def killed(network, data, recipe, seed, folder, after):
        def stop(epoch, network):
            if epoch == 2:
                raise KeyboardInterrupt

        return real(network, data, recipe, seed, folder, stop)

    def seen(network, data, recipe, seed, folder, after):
        return real(network, data, recipe, seed, folder, lambda epoch, _: epochs.append(epoch))

    with monkeypatch.context() as patched:
        patched.setattr(relational, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", graphs=0, seeds=1)
    monkeypatch.setattr(relational, "train", seen)
    resumed = run(tmp_path / "cut", graphs=0, seeds=1)
    assert epochs == [2, 1, 2]
    assert [p.test_errors for p in resumed] == [p.test_errors for p in whole]
    assert not list((tmp_path / "cut" / "networks").glob("*.begun"))


def _lines(out, queue):
    lines = []
    run_relational(options(out, seeds=2), echo=lines.append)
    queue.put(len(lines))


def test_two_processes_share_the_networks(tmp_path):
    spawn = multiprocessing.get_context("fork")
    queue = spawn.Queue()
    both = [spawn.Process(target=_lines, args=(tmp_path, queue)) for _ in range(2)]
    for process in both:
        process.start()
    counts = [queue.get(timeout=300) for _ in both]
    for process in both:
        process.join()
    assert counts == [9, 9]  # each has all 8 outcomes, and the table
    assert len(list((tmp_path / "networks").glob("*.json"))) == 8
    content = json.loads((tmp_path / "relational.json").read_text())
    assert len(content["points"]) == 4


def test_the_command(tmp_path, capsys):
    small = ["--data", "digits", "--nodes", "8", "--width", "16", "--graphs", "0", "--seeds", "1"]
    cli.main(["relational", *small, "--epochs", "1", "--device", "cpu", "--out", str(tmp_path)])
    assert "| `lattice` |" in (tmp_path / "relational.md").read_text()


def test_options_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(MetaTrainError, match="nothing to train"):
        options(tmp_path, graphs=0, named=())
    with pytest.raises(MetaTrainError, match="graph with a name"):
        options(tmp_path, named=("star",))
    with pytest.raises(MetaTrainError, match="no neuron for each of 8 nodes"):
        run(tmp_path, width=7)
