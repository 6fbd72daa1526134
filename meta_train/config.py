"""Everything that can be chosen about a run of meta-training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from meta_train.board.options import BoardOptions
from meta_train.errors import MetaTrainError
from meta_train.inner_stacks import Lengths
from meta_train.meta_loss import MetaLoss
from meta_train.outer import OuterOptions
from meta_train.tasks.augmentation import Augmentation
from meta_train.unroll.options import UnrollOptions


@dataclass(frozen=True)
class Config:
    """Meta-train a rule: learn its theta by training many small models with it.

    The defaults are the preset `default`: about twenty minutes on one CPU core.

    Started again with the same folder, a run goes on where it stopped. Under `torchrun`, the stacks
    are shared among the processes, and theta is the same for any number of them.

    Args:
        preset: where the other options take their defaults from.
        folder: of the run: checkpoints, and curves for TensorBoard.
        rule: name of a class in `ngopt.rules`, with options, such as `MatrixGNN:rounds=1`; or a
            file of a rule, whose theta is where to begin.
        families: what tasks are drawn from, each as likely, with options: alternatives are
            separated by `|`, as in `mlp:data=digits|mnist,width=16|32`. `python -m meta_train
            tasks` lists them.
        imports: modules to import first, which register families or rules of your own.
        steps: number of outer steps.
        stacks: number of stacks in an outer step, each of one task.
        active: number of stacks that take part in an outer step, in turn; 0 for all. With more
            stacks than are active, tasks can be long and outer steps still see many of them.
        mixed: draw the tasks of each stack from all families; else those of each from one of them,
            the first stack from the first, and so on in a circle.
        problems: number of inner runs in a stack, stepped together (antithetic pairs count once).
        entries: number of weights that all runs of a stack may have, so that there are fewer runs
            of large models; 0 for any number.
        estimator: of the meta-gradient: `backprop` (truncated), `greedy` (each step by itself, as
            the neural-graphs paper does), `es`, `pes`, `nres` (evolution strategies; the second
            and the third are unbiased over whole unrolls, the third draws its noise once), or
            `activity_pes`, which is `pes` with noise on the sizes that a rule puts out for bundles
            in place of the weights behind them.
        sigma: standard deviation of the noise on theta, for evolution strategies.
        sigma_outputs: the same of the noise on outputs, for `activity_pes`.
        standardize: for evolution strategies, let each stack count as much, whatever its losses.
        segment: for `pes` and `activity_pes`, number of inner steps for which the first noise
            stays; the next stays twice as long, and so on. 0 for new noise in each truncation.
        truncation: number of inner steps in an outer step.
        backend: `stacked` steps all runs of a stack at once; `modules` takes them one by one, for
            models that change their buffers.
        augment: how tasks are changed at random when they are drawn.
        lengths: for how many inner steps a task is kept.
        unroll: how inner runs are trained and measured.
        meta_loss: what is minimised.
        outer: how theta moves.
        frozen: parts of theta that stay as they are, by the beginning of their names, such as
            `scale` for the learned sizes of steps.
        seed: of everything random but the first theta, whose seed is an option of the rule.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        checkpoint_every: number of outer steps between checkpoints.
        keep: number of checkpoints to keep.
        board: what TensorBoard shows of the run.
    """

    preset: str = "default"
    folder: Path = Path("runs/default")
    rule: str = "MatrixGNN"
    families: tuple[str, ...] = ("mlp:width=16|32,depth=1|2,activation=relu|tanh",)
    imports: tuple[str, ...] = ()
    steps: int = 240
    stacks: int = 1
    active: int = 0
    mixed: bool = True
    problems: int = 32
    entries: int = 0
    estimator: Literal["backprop", "greedy", "es", "pes", "nres", "activity_pes"] = "backprop"
    sigma: float = 0.01
    sigma_outputs: float = 0.1
    standardize: bool = False
    segment: int = 0
    truncation: int = 30
    backend: Literal["stacked", "modules"] = "stacked"
    augment: Augmentation = field(default_factory=Augmentation)
    lengths: Lengths = field(default_factory=lambda: Lengths(60, 1000))
    unroll: UnrollOptions = field(
        default_factory=lambda: UnrollOptions(lr=1e-3, lr_spread=2.0, average=0.9)
    )
    meta_loss: MetaLoss = field(default_factory=lambda: MetaLoss(scale="log"))
    outer: OuterOptions = field(default_factory=lambda: OuterOptions(lr=2e-3))
    frozen: tuple[str, ...] = ("scale",)
    seed: int = 0
    device: str = "auto"
    checkpoint_every: int = 50
    keep: int = 3
    board: BoardOptions = field(default_factory=BoardOptions)

    def __post_init__(self) -> None:
        counts = {
            key: getattr(self, key)
            for key in ("steps", "stacks", "problems", "truncation", "checkpoint_every", "keep")
        }
        wrong = [f"{key}={value}" for key, value in counts.items() if value < 1]
        if not 0 <= self.active <= self.stacks or (self.active and self.stacks % self.active):
            raise MetaTrainError(
                f"{self.stacks} stacks cannot take turns in groups of {self.active}.\n"
                "  Use stacks= a multiple of active=, or active=0 for all in each outer step."
            )
        if self.segment < 0:
            raise MetaTrainError(
                f"noise cannot stay for segment={self.segment} inner steps.\n"
                "  Use segment= 1 or more, or 0 for new noise in each truncation."
            )
        if wrong or not self.families or min(self.sigma, self.sigma_outputs) <= 0:
            raise MetaTrainError(
                f"cannot meta-train with {', '.join(wrong) or f'families={self.families}'}.\n"
                "  Use at least 1 of each count, one family or more, sigma > 0 and "
                "sigma_outputs > 0."
            )
