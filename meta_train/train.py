"""A run of meta-training: resume, go on to the last outer step, write checkpoints and curves."""

import importlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean

from tqdm import tqdm

from meta_train import checkpoint
from meta_train.board.board import Board, open_board
from meta_train.config import Config
from meta_train.ctrl_c import CtrlC
from meta_train.distributed import world
from meta_train.provenance import command, commit
from meta_train.shared_files import usable_folder
from meta_train.trainer import MetaTrainer, Report

Echo = Callable[[str], None]

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""Without tqdm's own estimate of the time left, which takes evaluations for outer steps."""


def meta_train(config: Config, echo: Echo = tqdm.write) -> MetaTrainer:
    """Meta-train, or go on with it if the folder holds a checkpoint.

    Args:
        config: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The trainer after the last step; its `rule` is the result.

    Raises:
        MetaTrainError: if an option makes no sense, or the folder cannot be written to.
        KeyboardInterrupt: after Ctrl-C, with a message that says what was saved.
    """
    for module in config.imports:
        importlib.import_module(module)
    with world(config.device) as processes:
        if processes.is_main:
            usable_folder(config.folder)
            echo(f"Preparing `{config.rule}` and its first tasks.")
        trainer = MetaTrainer(config, processes)
        resumed = _resume(trainer, echo)
        if trainer.step_number < config.steps:
            with open_board(trainer) as board:
                _go_on(trainer, board, echo, resumed)
        elif processes.is_main:
            echo(
                f"The run in {config.folder} is finished: it has done {trainer.step_number} outer "
                f"steps.\n  For more, give a larger --steps; for another run, another --folder."
            )
        if processes.is_main:
            echo(_what_now(trainer))
        return trainer


def _resume(trainer: MetaTrainer, echo: Echo) -> int:
    """Load the newest checkpoint, if there is one; returns its outer step, else 0."""
    folder, main = trainer.config.folder, trainer.world.is_main
    # The folder need not be there on other machines, nor what is in it whole.
    found = trainer.world.broadcast(checkpoint.latest(folder, warn=echo) if main else None)
    if found is None:
        return 0
    step, state = found
    trainer.load_state_dict(state)
    checkpoint.restore_random_state(state["random"])
    if main and step < trainer.config.steps:
        echo(f"Going on from outer step {step} in {folder}.")
    return int(step)


def _go_on(trainer: MetaTrainer, board: Board, echo: Echo, saved: int) -> None:
    config, main = trainer.config, trainer.world.is_main
    # Files may change while a long run is at work.
    origin = {"command": command(), "commit": commit()}
    # Several processes have to save together, and Ctrl-C does not reach them at the same step.
    ctrl_c, pace = CtrlC(echo, trainer.world.size == 1), Pace(config.steps, config.board.every)
    progress = tqdm(
        total=config.steps,
        initial=trainer.step_number,
        desc=config.rule.partition(":")[0],
        bar_format=BAR,
        disable=not main,
        dynamic_ncols=True,
    )
    try:
        with ctrl_c, progress:
            board.before(trainer)
            while trainer.step_number < config.steps:
                with ctrl_c.put_off():
                    began = time.perf_counter()
                    report = trainer.step()
                    seconds = time.perf_counter() - began
                    trainer.seconds += seconds
                text = _postfix(report, seconds, pace.left(report.step))
                progress.set_postfix_str(text, refresh=False)
                progress.update()
                began = time.perf_counter()
                board.after(trainer, report)
                pace.add(report.step, seconds, time.perf_counter() - began)
                if report.step % config.checkpoint_every == 0 or report.step == config.steps:
                    _save(trainer, origin)
                    saved = report.step
    except KeyboardInterrupt:
        if trainer.world.size == 1 and not ctrl_c.broken and trainer.step_number > saved:
            _save(trainer, origin)
            saved = trainer.step_number
        raise KeyboardInterrupt(_stopped(config, saved)) from None


class Pace:
    """How long a run is going to take.

    Args:
        steps: number of outer steps in all.
        every: number of outer steps between evaluations; 0 for none.
    """

    def __init__(self, steps: int, every: int) -> None:
        self._steps, self._every = steps, every
        self._seconds: deque[float] = deque(maxlen=20)
        self._evaluation = 0.0
        self._first = True

    def add(self, step: int, seconds: float, board: float) -> None:
        """Take note of the seconds of an outer step, and of the board's after it."""
        if not self._first:  # The first one loads and compiles.
            self._seconds.append(seconds)
        self._first = False
        if self._every and (step % self._every == 0 or step == self._steps):
            self._evaluation = board

    def left(self, step: int) -> float | None:
        """Seconds that are left after so many outer steps; None while nothing is known.

        >>> pace = Pace(10, 5)
        >>> for step, board in enumerate([0.0, 0.0, 0.0, 0.0, 60.0], start=1):
        ...     pace.add(step, 2.0, board)
        >>> pace.left(5)  # five steps of 2 s, and one more evaluation
        70.0
        """
        if not self._seconds:
            return None
        evaluations = 0
        if self._every:
            evaluations = self._steps // self._every - step // self._every
            evaluations += self._steps % self._every > 0
        return fmean(self._seconds) * (self._steps - step) + evaluations * self._evaluation


def _postfix(report: Report, seconds: float, left: float | None) -> str:
    text = f"meta-loss {report.meta_loss:.4f}, {report.inner_steps / seconds:,.0f} inner steps/s"
    text += f", {report.diverged} diverged" if report.diverged else ""
    return text if left is None else f"about {tqdm.format_interval(left)} left, {text}"


def _stopped(config: Config, saved: int) -> str:
    if not saved:
        return "Stopped before the first outer step was done: there is no checkpoint."
    return (
        f"Stopped. The checkpoint in {config.folder} is of outer step {saved} of {config.steps}: "
        "the same command goes on from there."
    )


def _what_now(trainer: MetaTrainer) -> str:
    folder = trainer.config.folder
    return (
        f"Checkpoints and curves are in {folder}.\n"
        f"  Look at it:  tensorboard --logdir {folder.parent}\n"
        f"  Compare it:  python -m meta_train evaluate --suites validation --rule {folder}\n"
        f"  Use it:      python -m meta_train export {folder} {folder.name}.safetensors"
    )


def _save(trainer: MetaTrainer, origin: Mapping[str, str | None]) -> None:
    state = trainer.state_dict()
    if state is not None:
        state |= {"random": checkpoint.random_state(), **origin}
        config = trainer.config
        checkpoint.save(config.folder, trainer.step_number, state, config.keep)
