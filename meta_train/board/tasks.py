"""The tasks that the board looks at, and what they are."""

from collections import Counter
from textwrap import indent
from typing import Any

import torch

from meta_train.board.cards import GRAPH
from meta_train.board.panel import Panel
from meta_train.config import Config
from meta_train.tasks.family import family_of
from meta_train.tasks.task import Task
from meta_train.trainer import MetaTrainer
from ngopt.monitor.images import graph_image


def board_tasks(config: Config, device: torch.device) -> dict[str, Task]:
    """Draw one task of each family of the board; always the same ones.

    Args:
        config: of the run; its own families stand in if the board has none.
        device: where the tasks' data are to be.

    Returns:
        The tasks, by names that are short enough for the title of a chart: that of the family,
        with a number if there are several tasks of it.
    """
    families = [family_of(text) for text in config.board.tasks or config.families]
    drawn = [family.sample(torch.Generator().manual_seed(0)) for family in families]
    tasks = {task.name: task.to(device) for task in drawn}
    of_family = Counter(map(family_name, tasks))
    seen: Counter[str] = Counter()
    labelled = {}
    for name, task in tasks.items():
        family = family_name(name)
        seen[family] += 1
        labelled[f"{family} {seen[family]}" if of_family[family] > 1 else family] = task
    return labelled


def family_name(task: str) -> str:
    """Family of a task, by the task's name.

    >>> family_name("mlp(data=digits, width=32)")
    'mlp'
    """
    return task.partition("(")[0]


class Graphs(Panel):
    """Draws the neural graph of each task of the board; only in words without matplotlib.

    Args:
        writer: of the run.
        tasks: of the board, by their short names.
    """

    def __init__(self, writer: Any, tasks: dict[str, Task]) -> None:
        super().__init__(writer)
        self._tasks = tasks

    def before(self, trainer: MetaTrainer) -> None:
        """Draw, unless that was done before the run was resumed."""
        if trainer.step_number:
            return
        for label, task in self._tasks.items():
            text = f"{task.name}\n\n{indent(task.graph.summary(), '    ')}"
            self.writer.add_text(f"{GRAPH}/{label}", text, 0)
            picture = graph_image(task.graph)
            if picture is not None:
                self.writer.add_image(f"{GRAPH}/{label}", picture, 0)
