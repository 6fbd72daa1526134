"""Repeated blocks of a model, such as the layers of a transformer: one is shown for all."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.structure import Structure

WORTHWHILE = 4
"""How many tensors must be hidden behind the first block; fewer are shown one by one."""

_NUMBER = re.compile(
    r"(?:^|(?<=\.))\d+(?=\.|$)|(?<=_l)\d+(?=_|$)"
)  # `blocks.3.weight`, `weight_l3`


@dataclass(frozen=True)
class Repeat:
    """A run of alike blocks, of which the first stands for all.

    Args:
        module: name of the module that holds the blocks, empty for the model itself.
        numbers: the numbers that tell the blocks apart in the names of their tensors.
        tensors: names of the tensors of the first block.
        spaces: its sets of neurons of which every block has its own.
    """

    module: str
    numbers: tuple[int, ...]
    tensors: tuple[str, ...]
    spaces: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """How the names of the first block's tensors begin."""
        inside = f"{self.module}.{self.numbers[0]}.".lstrip(".")
        return inside if self._modules else f"{self.module}.".lstrip(".")

    @property
    def title(self) -> str:
        """Which blocks they are, and how many: `blocks.0 to blocks.11, x 12`."""
        before = (
            f"{self.module}.".lstrip(".") if self._modules else f"{self.module} layer ".lstrip()
        )
        return f"{before}{self.numbers[0]} to {before}{self.numbers[-1]}, x {len(self.numbers)}"

    @property
    def _modules(self) -> bool:
        """Whether each block is a module, unlike the layers of `nn.LSTM`."""
        inside = f"{self.module}.{self.numbers[0]}.".lstrip(".")
        return all(name.startswith(inside) for name in self.tensors)


def collapse(structure: Structure) -> tuple[Structure, tuple[Repeat, ...]]:
    """Keep the first of each run of alike blocks.

    Blocks are found by the numbers in the names of their tensors. Neighbours are alike if their
    tensors have the same names otherwise, the same shapes and kinds, and lead from and to the same
    sets of neurons, to sets of their own of the same sizes, or from one block to the next. What
    the last block leads to, the first one leads to in the result.

    Returns:
        The smaller graph, and the runs, outer ones first.
    """
    repeats: list[Repeat] = []
    deepest = max((len(_NUMBER.findall(name)) for name in structure.layouts), default=0)
    for level in range(deepest):
        for (module, _), blocks in _blocks(structure, level).items():
            for run in _runs(structure, sorted(blocks.items())):
                structure, repeat = _keep_first(structure, module, run)
                repeats.append(repeat)
    kept = structure.layouts
    alive = (r for r in repeats if any(name in kept for name in r.tensors))
    return structure, tuple(
        replace(r, tensors=tuple(name for name in r.tensors if name in kept)) for r in alive
    )


def counts(repeats: Iterable[Repeat]) -> dict[str, int]:
    """How many each tensor and space of a repeated block stands for, by name."""
    result: dict[str, int] = {}
    for repeat in repeats:
        for name in (*repeat.tensors, *repeat.spaces):
            result[name] = result.get(name, 1) * len(repeat.numbers)
    return result


Block = Mapping[str, Layout]
"""The tensors of a block, by the rest of their names; in all blocks of a run in the same order."""

Run = Sequence[tuple[int, Block]]


def _blocks(
    structure: Structure, level: int
) -> dict[tuple[str, str], dict[int, dict[str, Layout]]]:
    """Tensors by module, by the number that comes at this place in their names, and by the rest."""
    found: dict[tuple[str, str], dict[int, dict[str, Layout]]] = {}
    for name, layout in structure.layouts.items():
        numbers = list(_NUMBER.finditer(name))
        if level >= len(numbers):
            continue
        start, end = numbers[level].span()
        module, _, before = name[:start].rpartition(".")
        key = (module, "in the names of tensors" if before else "of modules")
        rest = f"{before}#{name[end:]}"
        found.setdefault(key, {}).setdefault(int(name[start:end]), {})[rest] = layout
    return found


def _runs(structure: Structure, blocks: Run) -> list[Run]:
    """The runs of alike blocks that are worth it."""
    users = _users(structure.layouts.values())
    runs: list[list[tuple[int, Block]]] = [[block] for block in blocks[:1]]
    for (_, before), block in pairwise(blocks):
        if _alike(structure, before, block[1], users):
            runs[-1].append(block)
        else:
            runs.append([block])
    return [run for run in runs if (len(run) - 1) * len(run[0][1]) >= WORTHWHILE]


def _users(layouts: Iterable[Layout]) -> dict[str, set[str]]:
    """The tensors that touch each space."""
    users: dict[str, set[str]] = {}
    for layout in layouts:
        for space in (s for bundle in layout.bundles for s in bundle.spaces()):
            users.setdefault(space, set()).add(layout.name)
    return users


def _alike(
    structure: Structure, first: Block, second: Block, users: Mapping[str, set[str]]
) -> bool:
    if list(first) != list(second):
        return False
    pairs: dict[str, str] = {}
    for one, other in zip(first.values(), second.values(), strict=True):
        if _form(one) != _form(other):
            return False
        for a, b in _spaces_beside(one, other):
            if pairs.setdefault(a, b) != b:
                return False
    own, others = ({layout.name for layout in block.values()} for block in (first, second))

    def passes_on(space: str) -> bool:
        """Whether a space leads from one block to the other, and to nothing else."""
        return bool(users[space] & own and users[space] & others) and users[space] <= own | others

    for a, b in pairs.items():
        here, there = structure.spaces[a], structure.spaces[b]
        if (here.size, here.pinned) != (there.size, there.pinned):
            return False
        apart = users[a] <= own and users[b] <= others
        if a != b and not (apart or passes_on(a) or passes_on(b)):
            return False
    return len(set(pairs.values())) == len(pairs)


def _form(layout: Layout) -> tuple[object, ...]:
    """All that does not depend on the names of tensors and spaces."""
    parts = [(b.steps, b.sizes, b.roles, b.axes) for b in layout.bundles]
    return layout.shape, layout.kind, layout.buffer, parts


def _spaces_beside(one: Layout, other: Layout) -> Iterable[tuple[str, str]]:
    for a, b in zip(one.bundles, other.bundles, strict=True):
        yield from (
            (str(x), str(y))
            for x, y in zip(a.factors, b.factors, strict=True)
            if isinstance(x, str) and isinstance(y, str)
        )


def _keep_first(structure: Structure, module: str, run: Run) -> tuple[Structure, Repeat]:
    (_, first), *others = run
    names = tuple(layout.name for layout in first.values())
    gone = {layout.name for _, block in others for layout in block.values()}
    stands_for: dict[str, str] = {}
    for _, block in others:
        for one, other in zip(first.values(), block.values(), strict=True):
            stands_for |= {b: a for a, b in _spaces_beside(one, other) if a != b}
    users = _users(structure.layouts.values())
    own = [space for space in dict.fromkeys(stands_for.values()) if users[space] <= gone | {*names}]
    kept = {s for layout in first.values() for bundle in layout.bundles for s in bundle.spaces()}
    renamed = {b: a for b, a in stands_for.items() if b not in kept}
    layouts = {
        name: replace(layout, bundles=tuple(_rename(bundle, renamed) for bundle in layout.bundles))
        for name, layout in structure.layouts.items()
        if name not in gone
    }
    touched = _users(layouts.values()).keys()
    around = {outer for name in touched for outer in structure.spaces[name].within}
    spaces = {n: s for n, s in structure.spaces.items() if n in touched or n in around}
    smaller = replace(structure, spaces=spaces, layouts=layouts)
    return smaller, Repeat(module, tuple(number for number, _ in run), names, tuple(own))


def _rename(bundle: Bundle, names: Mapping[str, str]) -> Bundle:
    factors = tuple(names.get(f, f) if isinstance(f, str) else f for f in bundle.factors)
    return replace(bundle, factors=factors)
