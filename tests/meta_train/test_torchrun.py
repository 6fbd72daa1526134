"""Several processes do together what one does alone."""

import os
import random
import signal
from dataclasses import replace

import pytest

from meta_train import checkpoint
from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.distributed import world
from meta_train.inner_stacks import Lengths
from meta_train.train import meta_train
from meta_train.trainer import MetaTrainer
from tests.meta_train.forks import forked, run
from tests.meta_train.launch import finished, launched
from tests.meta_train.states import differences

TINY = Config(
    frozen=(),
    rule="FF",
    families=("mlp:width=4|6,depth=1,batch=4", "quadratic:size=3"),
    steps=3,
    stacks=4,
    problems=2,
    truncation=1,
    lengths=Lengths(1, 3),
    device="cpu",
)


def _up_to(config, folder, until):
    """What each process does: go on, if it can, to an outer step, and save."""

    def work(processes):
        trainer = MetaTrainer(config, processes)
        found = checkpoint.latest(folder)
        if found is not None:
            trainer.load_state_dict(found[1])
        while trainer.step_number < until:
            trainer.step()
        state = trainer.state_dict()
        if state is not None:
            checkpoint.save(folder, until, state | {"random": checkpoint.random_state()})

    return work


def _alone(config, folder):
    with world("cpu") as alone:
        _up_to(config, folder, config.steps)(alone)
    return checkpoint.latest(folder)[1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("estimator", ["backprop", "pes"])
def test_theta_does_not_depend_on_the_number_of_processes(estimator, tmp_path):
    config = replace(TINY, estimator=estimator)
    expected = _alone(config, tmp_path / "alone")
    together = tmp_path / "together"
    for until, processes in enumerate((2, 4, 1), start=1):
        codes, _ = run(_up_to(config, together, until), processes)
        assert codes == [0] * processes
    assert differences(checkpoint.latest(together)[1], expected) == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_only_the_main_process_needs_the_checkpoints(tmp_path):
    config = replace(TINY, folder=tmp_path / "0", board=BoardOptions(every=0, histograms=0))
    expected = _alone(config, tmp_path / "alone")
    with world("cpu") as alone:
        _up_to(config, config.folder, until=2)(alone)

    def go_on(rank):
        trainer = meta_train(replace(config, folder=tmp_path / str(rank)))
        return trainer.inner_steps

    codes, inner_steps = forked(go_on)
    assert codes == [0, 0]
    assert inner_steps[0] == inner_steps[1]
    assert differences(checkpoint.latest(config.folder)[1], expected) == []


STEPS = 12
FOUR = "--stacks 4"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """State at the end of a run of one process."""
    return finished(tmp_path_factory.mktemp("runs") / "alone", STEPS, options=FOUR)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_torchrun_gives_the_theta_of_one_process(alone, processes, tmp_path):
    state = finished(tmp_path / "together", STEPS, processes, FOUR)
    assert differences(state, alone) == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_one_killed_process_stops_the_others_and_the_run_goes_on(alone, processes, tmp_path):
    folder = tmp_path / "killed"
    with launched(folder, STEPS, processes, FOUR) as started:
        started.wait_for_step(3)
        workers = started.workers()
        assert len(workers) == processes
        os.kill(random.Random(processes).choice(workers), signal.SIGKILL)
        assert started.finish() != 0
        assert started.workers() == []
        stopped = started.text.count("Start the same command again: it resumes from the last")
        assert stopped == processes - 1
        assert "another" in started.text
    step, _ = checkpoint.latest(folder)
    assert 3 <= step < STEPS
    with launched(folder, STEPS, 2, FOUR) as again:
        assert again.finish() == 0, again.text
        assert f"Going on from outer step {step} in" in again.text
    assert differences(checkpoint.latest(folder)[1], alone) == []


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    folder = tmp_path / "shared"
    with launched(folder, STEPS, 4, FOUR) as started:
        started.wait_for_step(4)
    state = finished(folder, STEPS, 1, FOUR)
    assert differences(state, alone) == []
