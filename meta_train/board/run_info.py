"""Run info: configuration, command and rule as text, and hyper-parameters to compare runs by."""

import json
from typing import Any

from meta_train.board.cards import layout
from meta_train.board.panel import Panel
from meta_train.config import Config
from meta_train.provenance import command
from meta_train.trainer import MetaTrainer, Report, as_json
from ngopt.rules.library import fingerprint

LAST = ("entries", "backend", "lengths", "augment")
"""Options that come last in the table of hyper-parameters."""

UNCOMPARED = ("preset", "folder", "imports", "device", "checkpoint_every", "keep", "board")
"""Options that say nothing about how good a run can be."""


class RunInfo(Panel):
    """Writes the configuration, the command and the rule as text, and hyper-parameters.

    Args:
        writer: of the run.
        metrics: tags of the curves whose last point tells how good a run is.
        opponents: what the run is compared with.
    """

    def __init__(self, writer: Any, metrics: list[str], opponents: tuple[str, ...] = ()) -> None:
        super().__init__(writer)
        self._metrics, self._opponents = metrics, opponents

    def before(self, trainer: MetaTrainer) -> None:
        """Write what the run is; once more when it is resumed, since some options may change."""
        texts = {
            "command": _code(command()),
            "config": _code(as_json(trainer.config)),
            "rule": _card(trainer),
        }
        for tag, text in texts.items():
            self.writer.add_text(tag, text, trainer.step_number)
        self.writer.add_custom_scalars(layout(self._opponents))
        experiment, start, _ = self._summaries(trainer.config)
        self.writer.file_writer.add_summary(experiment)
        self.writer.file_writer.add_summary(start)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Say that the run is over, when it is."""
        if report.step == trainer.config.steps:
            *_, end = self._summaries(trainer.config)
            self.writer.file_writer.add_summary(end)

    def _summaries(self, config: Config) -> tuple[Any, Any, Any]:
        # add_hparams() would put them into a run of its own, away from the curves.
        from torch.utils.tensorboard.summary import hparams

        make: Any = hparams  # has no types
        summaries: tuple[Any, Any, Any] = make(
            hyper_parameters(config), dict.fromkeys(self._metrics)
        )
        return summaries


def hyper_parameters(config: Config) -> dict[str, Any]:
    """What runs can be compared by: numbers and words, by name, such as `outer.lr`."""
    options = json.loads(as_json(config))
    compared = {name: value for name, value in options.items() if name not in UNCOMPARED}
    # Columns have this order: what seldom differs comes last.
    last = {name: compared.pop(name) for name in LAST}
    return _flat(compared | last)


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _card(trainer: MetaTrainer) -> str:
    rule, theta = trainer.rule, trainer.rule.state_dict()
    rows = {
        "rule": f"`{trainer.config.rule}`",
        "class": f"`{type(rule).__name__}`",
        "weights": f"{sum(weight.numel() for weight in trainer.outer.theta.values()):,}",
        "outer step": f"{trainer.step_number}",
        "SHA-256 of theta": f"`{fingerprint(theta)}`",
    }
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())])
    summary = (type(rule).__doc__ or "").partition("\n")[0]
    return f"{summary}\n\n{table}\n\n{_code(json.dumps(rule.config, indent=2))}"


def _code(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
