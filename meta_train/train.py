"""A run of meta-training: resume, go on to the last outer step, write checkpoints and curves."""

import importlib
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from meta_train import checkpoint
from meta_train.board.board import Board, open_board
from meta_train.config import Config
from meta_train.distributed import world
from meta_train.provenance import command, commit
from meta_train.trainer import MetaTrainer, Report

Echo = Callable[[str], None]


def meta_train(config: Config, echo: Echo = tqdm.write) -> MetaTrainer:
    """Meta-train, or go on with it if the folder holds a checkpoint.

    Args:
        config: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The trainer after the last step; its `rule` is the result.
    """
    for module in config.imports:
        importlib.import_module(module)
    with world(config.device) as processes:
        trainer = MetaTrainer(config, processes)
        _resume(trainer, echo)
        with open_board(trainer) as board:
            _go_on(trainer, board)
        return trainer


def _resume(trainer: MetaTrainer, echo: Echo) -> None:
    folder, main = trainer.config.folder, trainer.world.is_main
    # The folder need not be there on other machines, nor what is in it whole.
    found = trainer.world.broadcast(checkpoint.latest(folder, warn=echo) if main else None)
    if found is not None:
        step, state = found
        trainer.load_state_dict(state)
        checkpoint.restore_random_state(state["random"])
        if main:
            echo(f"Going on from outer step {step} in {folder}.")


def _go_on(trainer: MetaTrainer, board: Board) -> None:
    config, main = trainer.config, trainer.world.is_main
    progress = tqdm(
        total=config.steps,
        initial=trainer.step_number,
        desc=config.rule.partition(":")[0],
        unit="outer step",
        disable=not main,
        dynamic_ncols=True,
    )
    # Files may change while a long run is at work.
    origin = {"command": command(), "commit": commit()}
    board.before(trainer)
    with progress:
        while trainer.step_number < config.steps:
            since = time.perf_counter()
            report = trainer.step()
            seconds = time.perf_counter() - since
            trainer.seconds += seconds
            progress.update()
            progress.set_postfix_str(_postfix(report, seconds))
            board.after(trainer, report)
            if report.step % config.checkpoint_every == 0 or report.step == config.steps:
                _save(trainer, origin)


def _postfix(report: Report, seconds: float) -> str:
    text = f"meta-loss {report.meta_loss:.4f}, {report.inner_steps / seconds:,.0f} inner steps/s"
    return f"{text}, {report.diverged} diverged" if report.diverged else text


def _save(trainer: MetaTrainer, origin: Mapping[str, str | None]) -> None:
    state = trainer.state_dict()
    if state is not None:
        state |= {"random": checkpoint.random_state(), **origin}
        config = trainer.config
        checkpoint.save(config.folder, trainer.step_number, state, config.keep)
