"""`python -m meta_train train`, as it is typed, and its processes, none of which outlive a test."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from meta_train import checkpoint

ROOT = Path(__file__).parents[2]
PATIENCE = 300
"""Seconds after which a command counts as hanging."""

OPTIONS = (
    "--rule FF --families mlp:width=4|6,depth=1,batch=4 quadratic:size=3 --stacks 2 --problems 2"
    " --truncation 1 --lengths.shortest 2 --lengths.longest 8 --unroll.lr-spread 3 --device cpu"
    " --checkpoint-every 1 --board.every 0"
)


class Launched:
    """A command on its way, under torchrun if there are to be several processes."""

    def __init__(self, folder, steps, processes=1, options=""):
        self.folder, self.log = folder, folder.with_name(folder.name + ".log")
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        torchrun = [*torchrun, str(processes)] if processes > 1 else []
        arguments = f"-m meta_train train --folder {folder} {OPTIONS} --steps {steps} {options}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *torchrun, *arguments.split()],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    @property
    def text(self):
        """All that it has said."""
        return self.log.read_text()

    def wait_for_step(self, step):
        """Wait until the checkpoint of an outer step is there."""
        patience = time.monotonic() + PATIENCE
        while newest(self.folder) < step:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < patience, self.text
            time.sleep(0.01)

    def finish(self):
        """Wait for the end, and return the code."""
        return self.process.wait(PATIENCE)

    def workers(self):
        """Numbers of the processes that meta-train, other than a single one's."""
        return [pid for pid, text in self._alive() if "torch.distributed.run" not in text]

    def kill(self):
        """End all of its processes at once, wherever they are."""
        for pid in {self.process.pid} | {pid for pid, _ in self._alive()}:
            _end(pid)
        self.process.wait(PATIENCE)

    def _alive(self):
        # torchrun starts each process in a session of its own: they are known by their folder.
        lines = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True)
        found = [line.split(maxsplit=1) for line in lines.stdout.decode().splitlines()]
        return [(int(pid), text) for pid, text in found if f"--folder {self.folder} " in text]


@contextmanager
def launched(folder, steps, processes=1, options=""):
    """Start it; whatever is left of it at the end is killed."""
    started = Launched(folder, steps, processes, options)
    try:
        yield started
    finally:
        started.kill()


def newest(folder):
    """The newest outer step with a checkpoint, 0 if there is none."""
    return max((int(path.stem[5:]) for path in folder.glob("step-*.checkpoint")), default=0)


def finished(folder, steps, processes=1, options=""):
    """Run it to its end, and return the state in its last checkpoint."""
    with launched(folder, steps, processes, options) as started:
        assert started.finish() == 0, started.text
    step, state = checkpoint.latest(folder)
    assert step == steps
    return state


def _end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has come to its end by itself
