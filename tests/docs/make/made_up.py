"""Made-up results for the tests of the page."""

from dataclasses import asdict

from meta_train.comparison import Row
from meta_train.curves import Budget

CONVNET = "convnet(data={}, size={}, width={}, depth=3, kernel=3, batch=128)"
NEAR = (
    "mlp(data=cifar10, size=8, width=64, depth=2)",
    "mlp(data=mnist, size=8, width=32, depth=2)",
    CONVNET.format("fashion_mnist", 28, 16),
    CONVNET.format("cifar10", 32, 32),
)
FAR = tuple(f"{family}(data=cifar10, size=16)" for family in ("vit", "mixer", "gnn", "vae", "rnn"))


def row(contestant, task, train, speed_up=1.0, suite="near", **figures):
    """A row whose figures are as little surprising as can be."""
    plain = {
        "suite": suite,
        "task": task,
        "budget": Budget(1000, 3, 5),
        "contestant": contestant,
        "setting": "lr 0.01 constant",
        "at_edge": False,
        "train": train,
        "error": 0.01,
        "relative_train": train / 2,
        "held_out": train,
        "test": train,
        "relative_test": train / 2,
        "accuracy": 0.5,
        "worse": train > 1.02,
        "stalled": 0,
        "diverged": 0,
        "steps": 500 if speed_up else None,
        "speed_up": speed_up,
    }
    return Row(**{**plain, **figures})


def rows():
    """Of AdamW and a rule that is good at near tasks and ever worse at far ones."""
    found = []
    for suite, tasks in (("near", NEAR), ("far", FAR)):
        for number, task in enumerate(tasks):
            train = 0.8 if suite == "near" else 0.9 + 0.1 * number
            speed = 3.0 + number if suite == "near" else max(0.0, 2.0 - number)
            found.append(row("adamw", task, 1.0, suite=suite, setting="lr 0.001 cosine"))
            found.append(row("default", task, train, speed, suite))
    return found


def evaluation(given=None, opponents=("adamw",)):
    """Content of an `evaluation.json`."""
    given = rows() if given is None else given
    tasks = dict.fromkeys((f"{r.suite}: {r.task}" if r.suite else r.task) for r in given)
    names = list(dict.fromkeys(r.contestant for r in given))
    return {
        "command": "python -m meta_train evaluate --suites near far --out /somewhere",
        "options": {"opponents": list(opponents), "screen": 1, "seed": 5, "lr": None},
        "reference": "adamw",
        "criterion": "train",
        "planned": len(tasks),
        "rows": [asdict(r) for r in given],
        "summaries": [],
        "curves": {task: {name: [1.0] * 20 for name in names} for task in tasks},
    }
