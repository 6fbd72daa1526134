from docs.results_figures import comparison_of, results_of, short_names
from docs.results_page import curve_lines, group_lines, task_lines
from tests.docs.results import FAR, NEAR, evaluation, row


def cells(lines):
    return [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


def of(rows):
    comparison = comparison_of(evaluation(rows))
    names = short_names([row.task for row in comparison.rows])
    return comparison, results_of(comparison), names


ROWS = [
    row("adamw", NEAR[0], 1.0, relative_train=0.5),
    row("default", NEAR[0], 0.5, 2.0, test=1.5),
    row("lstm", NEAR[0], 30.0, 0.0, diverged=2),
    row("adamw", FAR[0], 2.0, suite="far"),
    row("default", FAR[0], 4.0, 0.0, "far", stalled=1),
    row("lstm", FAR[0], 2.0, 1.0, "far", worse=False),
]


def test_groups():
    comparison, found, _ = of(ROWS)
    table = cells(group_lines(comparison, found))
    assert [line[:2] for line in table[2:]] == [
        [group, f"`{name}`"] for group in ("near", "far") for name in ("adamw", "default", "lstm")
    ]
    assert table[3][2:] == ["2.00", "0.5", "1.5", "0 of 1", "0", "0"]
    assert table[4][2:] == ["0.00", "30", "30", "1 of 1", "0", "2"]
    assert table[6][2:] == ["0.00", "2", "2", "1 of 1", "1", "0"]
    assert table[5][2:5] == ["1.00", "1", "1"]


def test_tasks():
    _, found, names = of(ROWS)
    lines = task_lines(found, names)
    assert [line for line in lines if line.startswith("###")] == ["### near", "### far"]
    near, far = cells(lines)[2], cells(lines)[5]
    assert near == ["mlp cifar10", "1,000", "1", "2.00 · 0.500", "0.00 · **30** †"]
    assert far == ["vit cifar10", "1,000", "2", "0.00 · **2.000** †", "1.00 · 1.000"]


def test_tasks_without_rules_or_groups():
    _, found, names = of([row("adamw", NEAR[0], 1.0)])
    assert not cells(task_lines(found, names))
    _, found, names = of([row(name, NEAR[0], 1.0, suite="") for name in ("adamw", "default")])
    assert "### Of no group" in task_lines(found, names)


def test_curves_are_named_in_their_order():
    names = short_names([NEAR[1], FAR[2]])
    text = "\n".join(curve_lines({"pictured": [["far", FAR[2]], ["", NEAR[1]]]}, names))
    assert "gnn cifar10 (far); mlp mnist." in text
    assert curve_lines({"pictured": []}, names) == []
