"""Tiny runs of meta-training, and what is in the files of their boards."""

from dataclasses import replace

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from meta_train.board.board import board_folder, open_board
from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.distributed import World
from meta_train.inner_stacks import Lengths
from meta_train.trainer import MetaTrainer

ALONE = World(0, 1, torch.device("cpu"), grouped=False)
TINY = Config(
    frozen=(),
    rule="MatrixGNN:rounds=1,width=4",
    families=("mlp:width=3,depth=1,activation=tanh,batch=4",),
    steps=4,
    stacks=1,
    problems=1,
    truncation=2,
    lengths=Lengths(4, 8),
    device="cpu",
    checkpoint_every=2,
    board=BoardOptions(histograms=2, every=2, inner_steps=5, problems=2),
)


def trainer(folder, **options):
    return MetaTrainer(replace(TINY, folder=folder, **options), ALONE)


def quiet(**options):
    """A board without all that takes time."""
    return BoardOptions(histograms=0, every=0, **options)


def go_on(run, until=None):
    """Meta-train with a board, and return the reports."""
    reports = []
    with open_board(run) as board:
        board.before(run)
        while run.step_number < (run.config.steps if until is None else until):
            reports.append(step(run))
            board.after(run, reports[-1])
    return reports


def step(run):
    """Do an outer step, in half a second as far as the board knows."""
    run.seconds += 0.5
    return run.step()


def events(folder):
    """What TensorBoard loads of a folder of curves, or of the main curves of a run."""
    main = board_folder(replace(TINY, folder=folder))
    loaded = EventAccumulator(
        str(main if main.is_dir() else folder), size_guidance=dict.fromkeys(KINDS, 0)
    )
    loaded.Reload()
    return loaded


KINDS = ("scalars", "images", "histograms", "tensors")


def scalars(folder):
    """Points `(step, value)` of each curve in a folder, by tag."""
    loaded = events(folder)
    return {
        tag: [(point.step, point.value) for point in loaded.Scalars(tag)]
        for tag in loaded.Tags()["scalars"]
    }
