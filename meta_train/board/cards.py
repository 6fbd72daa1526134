"""The cards of the board: their groups in order, what each says about itself, and smoothing.

TensorBoard sorts groups by name and unfolds the first two, so names begin with numbers.
"""

from typing import Any

INNER, PROGRESS, BY_FAMILY = "1 inner curves, log10 of the loss", "2 progress", "3 by family"
MORE_INNER = "4 more inner curves, log10 of the loss"
OUTER, UPDATE, SCALE, ANGLE = "5 outer loop", "6 update RMS", "7 learned scale", "8 angle to Adam"
CORRECTION, NEURONS, THETA, GRAPH = "9 correction", "10 neurons", "11 theta", "12 graph"
THETA_CHANGE = "11 theta, change"

UNFOLDED = 4
"""Number of tasks whose inner curves are in the first group."""

FEW = 3
"""Number of tasks up to which each has a card of its speed-up in the second group.

With both limits there are at most nine cards in the first two groups."""

META_LOSS = f"{PROGRESS}/meta-loss"

SPEED, LOSS = "speed-up", "final loss"
"""What is compared with opponents."""

DESCRIPTIONS = {
    INNER: "A model of this task, trained by this theta, by earlier ones and by the tuned opponent "
    "(log10 of the training loss, mean over a few models). The lower the better.",
    PROGRESS: "Measured on outer steps or evaluations; the line at 1 is the tuned opponent.",
    OUTER: "What meta-training does in each outer step.",
    UPDATE: "Root mean square of the updates of a tensor in one watched inner run.",
    SCALE: "Factor by which the rule makes steps larger or smaller; 1 for an untrained rule.",
    ANGLE: "Degrees between the rule's update and Adam's on the same gradients.",
}
DESCRIPTIONS |= {BY_FAMILY: DESCRIPTIONS[PROGRESS], MORE_INNER: DESCRIPTIONS[INNER]}
"""What the cards of a group say about themselves."""

SPEED_UP = (
    "How many times fewer inner steps than the tuned opponent until its own final training loss. "
    "Above 1 the rule is faster; 0: it never gets there. The line at 1 is the opponent."
)
LOSS_RATIO = (
    "Final training loss over the tuned opponent's. Below 1 the rule is better. The line at 1 is "
    "the opponent. All tasks: geometric mean."
)
SMOOTHED = (
    "Mean meta-loss over the outer steps in which each inner run begins anew about once, so that "
    "restarts do not make it go up and down. The lower the better."
)


def over(opponent: str, what: str, task: str = "") -> str:
    """Name of a card that compares with an opponent, on a task or, by default, on all of them.

    TensorBoard cuts names after about twenty letters, so what tells them apart comes first.

    >>> over("adam", "speed-up"), over("adam", "final loss", "mlp")
    ('speed-up over adam', "final loss, mlp, over adam's")
    """
    whose = f"over {opponent}" + "'s" * (what == LOSS)
    return f"{what}, {task}, {whose}" if task else f"{what} {whose}"


def inner_group(place: int) -> str:
    """Group of the inner curves of a task, by its place among the tasks."""
    return INNER if place < UNFOLDED else MORE_INNER


def speed_up_group(tasks: int) -> str:
    """Group of the speed-ups on single tasks, by how many tasks there are."""
    return PROGRESS if tasks <= FEW else BY_FAMILY


def add_scalar(writer: Any, tag: str, value: float, step: int, description: str = "") -> None:
    """Write a point of a curve, with what its card says about itself.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`.
        tag: group and name, with a slash between them.
        value: of the point.
        step: where it is.
        description: Markdown; by default that of the group.
    """
    from torch.utils.tensorboard.summary import scalar

    make: Any = scalar  # has no types
    summary = make(tag, value)
    metadata = summary.value[0].metadata
    metadata.summary_description = description or DESCRIPTIONS.get(tag.partition("/")[0], "")
    metadata.plugin_data.plugin_name = "scalars"
    writer.file_writer.add_summary(summary, step)


def layout(opponents: tuple[str, ...]) -> dict[str, dict[str, list[Any]]]:
    """Charts of the tab *Custom Scalars*: the comparison with opponents, then the outer loop."""
    beside = {
        over(name, what): ["Multiline", [f"(2|3) .*/{what}.* over {name}('s)?$"]]
        for name in opponents
        for what in (SPEED, LOSS)
    }
    return {
        "against opponents": beside | {"inner curves": ["Multiline", ["(1|4) .*"]]},
        "meta-training": {
            "meta-loss, smoothed": ["Multiline", ["(2|3) .*/meta-loss.*"]],
            "norm of the meta-gradient": ["Multiline", [f"{OUTER}/norm.*"]],
        },
    }
