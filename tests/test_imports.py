"""Which files of ngopt import which."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in (ROOT / "ngopt").rglob("*.py")}


def imports(tree):
    """Modules that a file imports anywhere, but for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from imports(node)


IMPORTS = {
    name: {m for m in imports(ast.parse(path.read_text())) if m in FILES and m != name}
    for name, path in FILES.items()
}


def test_no_circles():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError


def test_rules_import_no_drawing():
    drawing = {name for name in FILES if name.startswith("ngopt.monitor")}
    assert drawing
    for name, imported in IMPORTS.items():
        if name.startswith(("ngopt.rules", "ngopt.optim", "ngopt.features", "ngopt.graph")):
            assert not imported & drawing, name
