"""What TensorBoard shows of a run of meta-training, and how often."""

from dataclasses import dataclass

from meta_train.errors import MetaTrainError


@dataclass(frozen=True)
class BoardOptions:
    """What `tensorboard --logdir runs` shows of a run, and how often. It does not change theta.

    Args:
        scalars: number of outer steps between points of the meta-loss and its like.
        histograms: number of outer steps between histograms of theta; 0 for none.
        every: number of outer steps between evaluations, in which theta as it is trains a model of
            each of the board's tasks, beside tuned opponents; 0 for none. The first and the last
            theta are evaluated as well. With the back end `modules` there are none.
        tasks: families to draw one task each from, without augmentation; by default those of the
            run.
        inner_steps: number of inner steps in an evaluation.
        problems: number of inner runs of each task in an evaluation; their mean is shown.
        opponents: well-known optimizers to compare with, each with its best learning rate and
            schedule for the task: adam, adamw, sgdm, muon.
    """

    scalars: int = 1
    histograms: int = 50
    every: int = 100
    tasks: tuple[str, ...] = ()
    inner_steps: int = 200
    problems: int = 4
    opponents: tuple[str, ...] = ("adam",)

    def __post_init__(self) -> None:
        positive = min(self.scalars, self.inner_steps, self.problems) >= 1
        if not positive or min(self.histograms, self.every) < 0:
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use at least 1 for scalars, inner_steps and problems, "
                "and at least 0 for histograms and every."
            )
