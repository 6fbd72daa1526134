"""A run that is killed and started again ends as one that was not."""

import random
import time
from copy import deepcopy
from dataclasses import replace

import pytest

from meta_train import checkpoint
from meta_train.config import Config
from meta_train.distributed import world
from meta_train.inner_stacks import Lengths
from meta_train.tasks.augmentation import Augmentation
from meta_train.trainer import MetaTrainer
from meta_train.unroll.options import UnrollOptions
from tests.meta_train.launch import finished, launched, newest
from tests.meta_train.states import differences

TINY = Config(
    frozen=(),
    rule="FF",
    families=("mlp:width=4|6,depth=1,batch=4", "quadratic:size=3"),
    steps=3,
    stacks=2,
    problems=2,
    truncation=1,
    lengths=Lengths(1, 3),
    unroll=UnrollOptions(lr_spread=3.0),
    device="cpu",
)

CASES = {
    "backprop": {"unroll": UnrollOptions(measure="held_out", second_order=True)},
    "greedy": {"estimator": "greedy", "unroll": UnrollOptions(measure="same")},
    "es": {"estimator": "es"},
    "pes": {"estimator": "pes"},
    "activity_pes": {
        "estimator": "activity_pes",
        "rule": "MatrixGNN:rounds=1,graph_sizes=True",
        "standardize": True,
    },
    "in turns": {"stacks": 4, "active": 2, "mixed": False, "estimator": "pes"},
    "few examples": {
        "families": ("mlp:width=4,depth=1,batch=4",),
        "augment": Augmentation(few=0.5, examples=(5, 7)),
        "estimator": "pes",
    },
    "one by one": {"backend": "modules"},
    "diverging": {"estimator": "pes", "unroll": UnrollOptions(lr=5e-3, diverged_above=1.1)},
    "a rule that remembers": {"rule": "LSTM"},
    "a rule with a graph": {"rule": "MatrixGNN:rounds=1"},
}


@pytest.mark.parametrize("case", CASES)
def test_begun_anew_after_every_step_theta_is_the_same(case, tmp_path):
    config = replace(TINY, **CASES[case])
    with world("cpu") as alone:
        uninterrupted = MetaTrainer(config, alone)
        before = deepcopy(uninterrupted.state_dict())
        diverged = sum(uninterrupted.step().diverged for _ in range(config.steps))
        for _ in range(config.steps):
            trainer = MetaTrainer(config, alone)
            found = checkpoint.latest(tmp_path)
            if found is not None:
                trainer.load_state_dict(found[1])
            trainer.step()
            checkpoint.save(tmp_path, trainer.step_number, trainer.state_dict())
    assert differences(uninterrupted.state_dict(), trainer.state_dict()) == []
    changed = {path[0] for path in differences(before, trainer.state_dict())}
    assert changed >= {"theta", "stacks"}
    assert (diverged > 0) == (case == "diverging")


STEPS, KILLS = 40, 5


def _kill_again_and_again(folder, seconds, after_kill):
    """Start and kill a run, each time at a random moment after it has made some progress."""
    moments = random.Random(0)
    for _ in range(KILLS):
        step = newest(folder)
        with launched(folder, STEPS) as started:
            started.wait_for_step(step + 1)
            time.sleep(moments.uniform(0, seconds / (2 * KILLS)))
            assert started.process.poll() is None, "it should be killed on its way"
        after_kill(folder)


def _corrupt(folder):
    """Damage the newest checkpoint: half of it is gone, or one bit of it is another."""
    path = folder / f"step-{newest(folder):08d}.checkpoint"
    content = bytearray(path.read_bytes())
    if newest(folder) % 2:
        del content[len(content) // 2 :]
    else:
        content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """State at the end of a run that was left in peace, and for how many seconds it stepped."""
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    with launched(folder, STEPS) as started:
        started.wait_for_step(1)
        since = time.monotonic()
        assert started.finish() == 0, started.text
        seconds = time.monotonic() - since
    return checkpoint.latest(folder)[1], seconds


@pytest.mark.slow
def test_killed_five_times_at_random_moments(uninterrupted, tmp_path):
    state, seconds = uninterrupted
    folder = tmp_path / "killed"
    _kill_again_and_again(folder, seconds, lambda _: None)
    assert 0 < newest(folder) < STEPS
    assert differences(finished(folder, STEPS), state) == []


@pytest.mark.slow
def test_killed_five_times_with_the_newest_checkpoint_damaged(uninterrupted, tmp_path):
    state, seconds = uninterrupted
    folder = tmp_path / "damaged"
    _kill_again_and_again(folder, seconds, _corrupt)
    damaged = newest(folder)
    with launched(folder, STEPS) as started:
        assert started.finish() == 0
        assert f"step-{damaged:08d}.checkpoint is damaged" in started.text
        assert "instead" in started.text
        assert "Going on from outer step" in started.text
    assert differences(checkpoint.latest(folder)[1], state) == []
