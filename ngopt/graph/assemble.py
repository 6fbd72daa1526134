"""From what a trace recorded to a `NeuralGraph`: names for spaces, bundles for parameters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ngopt.graph.bundle import Bundle, Factor, Role, ViewStep
from ngopt.graph.layout import Layout
from ngopt.graph.nesting import nested
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.space import Space
from ngopt.graph.terms import (
    ONE,
    Atom,
    Product,
    Term,
    age,
    families,
    indices,
    leaves,
    segments,
    size,
    specialise,
)
from ngopt.graph.trace_record import Use

_Dim: TypeAlias = tuple[Term, int]
"""A dimension on the way to a bundle: what it runs over, and the axis of the parameter."""


@dataclass
class _Piece:
    """A part of a parameter, each dimension of which runs over one factor."""

    steps: tuple[ViewStep, ...]
    dims: list[_Dim]


def assemble(
    recorder: TraceRecorder,
    tensors: Mapping[str, Sequence[Term]],
    buffers: Collection[str],
    aliases: Mapping[str, str],
    made: Sequence[Sequence[Term]] = (),
    batch: Term = ONE,
) -> tuple[NeuralGraph, list[tuple[Bundle, ...]]]:
    """Describe the parameters of a traced model, and other tensors by the same neurons.

    Args:
        recorder: what the trace found out.
        tensors: axes of each parameter and state buffer, by name.
        buffers: names of the state buffers among them.
        aliases: other names of tied parameters.
        made: axes of tensors that the forward pass has made.
        batch: what runs over the examples.

    Returns:
        The graph, and the bundles of each tensor that was made: the examples are their groups,
        neurons of the graph's spaces their outputs, and all else their taps.
    """
    for axes in tensors.values():
        recorder.solver.settle(axes)
        for axis in axes:
            for atom in leaves(axis):
                if atom.seen is None:
                    atom.pin = atom.pin or "not used in the forward pass"
    around = {a for axes in tensors.values() for axis in axes for a in _around(axis)}
    pieces = {
        name: _pieces([(axis, i) for i, axis in enumerate(axes)], (), around)
        for name, axes in tensors.items()
        if all(size(axis) for axis in axes)
    }
    activations = _activations(recorder)
    names = _Names(around, [p for parts in pieces.values() for p in parts], activations)
    deepest = max((use.depth or 0 for use in recorder.uses.values()), default=0) or 1
    layouts = {}
    for name, axes in tensors.items():
        use = recorder.uses[name]
        layouts[name] = Layout(
            name,
            tuple(size(axis) for axis in axes),
            tuple(_bundle(name, piece, names, use) for piece in pieces.get(name, [])),
            use.kind,
            1.0 if use.depth is None else use.depth / deepest,
            name in buffers,
        )
    graph = NeuralGraph(names.spaces, layouts, dict(aliases), tuple(recorder.unknown))
    return graph, [_made(axes, names, around, set(leaves(batch))) for axes in made]


def _made(
    axes: Sequence[Term], names: "_Names", around: set[Atom], batch: set[Atom]
) -> tuple[Bundle, ...]:
    bundles = []
    for piece in _pieces([(axis, i) for i, axis in enumerate(axes)], (), around):
        factors = tuple(names.factor(term) for term, _ in piece.dims)
        roles: list[Role] = [
            "group"
            if batch and set(leaves(term)) == batch
            else "out"
            if isinstance(factor, str)
            else "tap"
            for (term, _), factor in zip(piece.dims, factors, strict=True)
        ]
        sizes = tuple(size(term) for term, _ in piece.dims)
        numbers = tuple(axis for _, axis in piece.dims)
        bundles.append(Bundle("", piece.steps, factors, sizes, tuple(roles), numbers))
    return tuple(bundles)


def _activations(recorder: TraceRecorder) -> Mapping[Atom, set[str]]:
    """The activation functions that are applied to neurons."""
    found: dict[Atom, set[str]] = {}
    for activation, axis in recorder.activated:
        for atom in leaves(axis):
            found.setdefault(atom, set()).add(activation)
    return found


def _around(axis: Term) -> set[Atom]:
    """The atoms that the hidden atoms of an axis are nested in; pinned ones are in none."""
    return {outer for atom in leaves(axis) if not atom.pin for outer in nested(atom)}


def _pieces(dims: list[_Dim], steps: tuple[ViewStep, ...], around: set[Atom]) -> list[_Piece]:
    """Split dimensions until each runs over one factor."""
    awaited = {family.index for term, _ in dims for family in families(term)}
    for d, (term, axis) in enumerate(dims):
        if _is_whole(term, around) and not awaited & set(indices(term)):
            continue
        parts = segments(term)
        if len(parts) > 1:
            result, start = [], 0
            for items, choice in parts:
                length = size(Product(items))
                chosen = [(specialise(other, choice), i) for other, i in dims]
                chosen[d] = (Product(items), axis)
                step = ViewStep(d, start, length, (length,))
                result += _pieces(chosen, (*steps, step), around)
                start += length
            return result
        items = parts[0][0]
        if len(items) > 1:
            step = ViewStep(d, 0, size(term), tuple(map(size, items)))
            split = [(item, axis) for item in items]
            return _pieces([*dims[:d], *split, *dims[d + 1 :]], (*steps, step), around)
        if items and not isinstance(items[0], Atom):  # a family whose index is nowhere
            for atom in leaves(term):
                atom.pin = atom.pin or "it differs from part to part of something unknown"
    return [_Piece(steps, dims)]


def _is_whole(term: Term, around: set[Atom]) -> bool:
    """Whether nothing in a term can be permuted, so that its structure does not matter."""
    return all(atom.pin and atom not in around for atom in leaves(term))


class _Names:
    """Gives names to spaces, in the order in which the forward pass meets their neurons."""

    def __init__(
        self,
        around: set[Atom],
        pieces: Sequence[_Piece],
        activations: Mapping[Atom, set[str]],
    ) -> None:
        self._around, self._activations = around, activations
        found = {self._key(term): size(term) for piece in pieces for term, _ in piece.dims}
        keys = sorted((key for key in found if key), key=lambda key: min(map(age, key)))
        self._names: dict[tuple[Atom, ...], str] = {}
        for letter, pinned in (("h", False), ("p", True)):
            ours = (key for key in keys if bool(key[0].pin) == pinned)
            self._names |= {key: f"{letter}{i}" for i, key in enumerate(ours)}
        self.spaces = {self._names[key]: self._space(key, found[key]) for key in keys}

    def _key(self, term: Term) -> tuple[Atom, ...]:
        """The neurons that a dimension runs over; empty if it does not run over neurons."""
        atoms = tuple(leaves(term))
        free = all(atom.free and atom not in self._around for atom in atoms)
        return () if free else atoms

    def _space(self, key: tuple[Atom, ...], count: int) -> Space:
        around = set() if key[0].pin else nested(key[0])
        order = sorted(
            around, key=lambda atom: (len(nested(atom)), age(atom), self._names[(atom,)])
        )
        names = tuple(self._names[(atom,)] for atom in order)
        applied = {name for atom in key for name in self._activations.get(atom, ())}
        activation = " ".join(sorted(applied)) or "none"
        return Space(self._names[key], count, bool(key[0].pin), names, key[0].pin, activation)

    def factor(self, term: Term) -> Factor:
        """Name of the space of a dimension, or its size if no parameter has such neurons."""
        key = self._key(term)
        return self._names[key] if key in self._names else size(term)


def _bundle(parameter: str, piece: _Piece, names: _Names, use: Use) -> Bundle:
    terms = [term for term, _ in piece.dims]
    axes = tuple(axis for _, axis in piece.dims)
    return Bundle(
        parameter,
        piece.steps,
        tuple(names.factor(term) for term in terms),
        tuple(size(term) for term in terms),
        _roles(terms, axes, [isinstance(names.factor(term), str) for term in terms], use),
        axes,
    )


def _roles(
    terms: Sequence[Term], axes: Sequence[int], neurons: Sequence[bool], use: Use
) -> tuple[Role, ...]:
    """Which dimensions are input and which output neurons.

    Input neurons are those that a product with an activation sums over. Where that does not tell
    (recurrent weights, tables of positions), the first axis of hidden neurons is the output, as in
    torch's layers.
    """
    contracted = {a for atom in use.contracted for a in leaves(atom)}
    batched = {a for atom in use.batched for a in leaves(atom)}
    roles: list[Role] = []
    for term, is_neurons in zip(terms, neurons, strict=True):
        atoms = set(leaves(term))
        if not is_neurons:
            roles.append("tap")
        elif atoms <= batched:
            roles.append("group")
        else:
            roles.append("in" if atoms <= contracted else "out")
    _tell_ends_apart(terms, axes, roles)
    ends = {axis for axis, role in zip(axes, roles, strict=True) if role in ("in", "out")}
    if len(ends) > 1 and len({role for role in roles if role in ("in", "out")}) == 1:
        hidden = {axes[d] for d, term in enumerate(terms) if not all(a.pin for a in leaves(term))}
        output = min(ends & hidden or ends)
        for d, role in enumerate(roles):
            if role in ("in", "out"):
                roles[d] = "out" if axes[d] == output else "in"
    _join_nested(terms, roles)
    return tuple(roles)


def _tell_ends_apart(terms: Sequence[Term], axes: Sequence[int], roles: list[Role]) -> None:
    """Where one space stands on both ends, the axis that is summed over as a whole is the input."""
    by_axis = {axis: {r for a, r in zip(axes, roles, strict=True) if a == axis} for axis in axes}
    summed = [
        d for d, axis in enumerate(axes) if "in" in by_axis[axis] and "out" not in by_axis[axis]
    ]
    atoms = {atom for d in summed for atom in leaves(terms[d])}
    for d, term in enumerate(terms):
        if roles[d] == "in" and d not in summed and atoms & set(leaves(term)):
            roles[d] = "out"


def _join_nested(terms: Sequence[Term], roles: list[Role]) -> None:
    """Neurons of a nested space are told apart only beside the space around them."""
    for d, term in enumerate(terms):
        around = _around(term)
        beside = {roles[e] for e, other in enumerate(terms) if around & set(leaves(other))}
        if roles[d] in ("in", "out") and beside and not beside & {roles[d], "group"}:
            roles[d] = min(beside)
