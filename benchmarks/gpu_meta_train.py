"""Meta-train on a GPU for some minutes, whatever it manages in them.

    python -m benchmarks.gpu_meta_train --minutes 9 --out runs/gpu
    python -m benchmarks.gpu_meta_train --minutes 9 --out runs/gpu --rule runs/gpu/rule.safetensors
    python -m benchmarks.gpu_meta_train --device cpu --tiny --minutes 1 --out runs/tiny

Writes the rule every few outer steps, a line of `curve.jsonl` after each, and curves for
TensorBoard. The learning rate of theta falls to its last as the time runs out. The second command
goes on from a rule; the inner runs, which would fill gigabytes, begin anew.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from meta_train.board.board import open_board
from meta_train.config import Config
from meta_train.distributed import world
from meta_train.inner_stacks import Lengths
from meta_train.presets import PRESETS
from meta_train.trainer import MetaTrainer
from ngopt import save_rule

EVERY = 20
"""Outer steps between two files of the rule."""


def tiny(config: Config) -> Config:
    """A configuration for a try, on the data that come with scikit-learn."""
    families = ("mlp:width=16,depth=1", "transformer_lm:width=16,depth=1")
    return replace(
        config, families=families, stacks=2, problems=2, truncation=4, lengths=Lengths(8, 16)
    )


def config_of(options: argparse.Namespace) -> Config:
    """What is meta-trained, and how."""
    config = replace(
        PRESETS[options.preset],
        folder=options.out,
        rule=options.rule or PRESETS[options.preset].rule,
        device=options.device,
        seed=options.seed,
        steps=10**6,
    )
    config = replace(
        config,
        sigma=options.sigma or config.sigma,
        problems=options.problems or config.problems,
        outer=replace(config.outer, lr=options.lr or config.outer.lr),
    )
    return tiny(config) if options.tiny else config


def run(config: Config, seconds: float) -> MetaTrainer:
    """Meta-train until the time is over."""
    config.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with world(config.device) as processes:
        trainer = MetaTrainer(config, processes)
        first = time.perf_counter()
        with open_board(trainer) as board, (config.folder / "curve.jsonl").open("a") as curve:
            board.before(trainer)
            while not trainer.step_number or (spent := time.perf_counter() - started) < seconds:
                if trainer.step_number > config.outer.warmup:
                    each = (time.perf_counter() - first) / trainer.step_number
                    trainer.last = trainer.step_number + max(1, int((seconds - spent) / each))
                report = trainer.step()
                trainer.seconds = time.perf_counter() - started
                board.after(trainer, report)
                line = vars(report) | {"seconds": trainer.seconds, "in_all": trainer.inner_steps}
                curve.write(json.dumps(line) + "\n")
                curve.flush()
                if report.step % EVERY == 0:
                    save_rule(trainer.rule, config.folder / "rule.safetensors")
                    print(
                        f"{report.step} of {trainer.last}: meta-loss {report.meta_loss:.4f}, norm "
                        f"{report.norm:.3f}, {trainer.inner_steps:,} inner steps in "
                        f"{trainer.seconds:.0f} s, {report.diverged} diverged",
                        flush=True,
                    )
        save_rule(trainer.rule, config.folder / "rule.safetensors")
        return trainer


def main() -> None:
    """Read the options, meta-train, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="at_scale")
    parser.add_argument("--rule", help="where to begin, if not with the preset's")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--lr", type=float, help="of theta")
    parser.add_argument("--problems", type=int)
    parser.add_argument("--tiny", action="store_true", help="a try, with two small tasks")
    options = parser.parse_args()
    trainer = run(config_of(options), 60 * options.minutes)
    print(
        f"{trainer.step_number} outer steps, {trainer.inner_steps:,} inner steps in "
        f"{trainer.seconds:.0f} s: {trainer.inner_steps / trainer.seconds:,.0f}/s"
    )


if __name__ == "__main__":
    main()
