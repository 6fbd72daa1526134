"""The recorder: what a trace knows about each tensor, and the methods that handlers call."""

import math
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ngopt.graph import views
from ngopt.graph.layout import Kind
from ngopt.graph.solver import Solver
from ngopt.graph.terms import ONE, Concat, Product, Term, leaves, size, specialise
from ngopt.graph.trace_record import Record, Use

UNSEEN = "an operation that torch functions do not show"
"""Among what is unknown, where compiled or scripted code has run."""


class TraceRecorder:
    """Knows the axes of every tensor that a forward pass has made so far."""

    def __init__(self) -> None:
        self.solver = Solver()
        self.uses: dict[str, Use] = {}
        self.unknown: dict[str, None] = {}
        self._records: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.activated: list[tuple[str, Term]] = []
        self._clock = 0

    def add_parameter(self, name: str, tensor: Tensor) -> list[Term]:
        """Start to follow a parameter or state buffer, and return its axes."""
        axes = [self.solver.atom(n) for n in tensor.shape]
        self.uses[name] = Use()
        self._records[tensor] = Record(axes, live=False, sources=frozenset([name]))
        self.solver.settle(axes)
        return axes

    def add_constant(self, tensor: Tensor, reason: str) -> None:
        """Start to follow a tensor that no optimizer changes."""
        axes = [self.solver.atom(n, reason) for n in tensor.shape]
        self._records[tensor] = Record(axes, live=False)

    def record(self, tensor: Tensor) -> Record:
        """Everything known about a tensor. One that was never seen is an input of the model."""
        found: Record | None = self._records.get(tensor)  # type: ignore[no-untyped-call]
        if found is None and tensor.grad_fn is not None:
            self._escape()
        if found is not None and len(found.axes) != tensor.dim():
            self.pin("its shape was changed in place", *found.axes)
            found = None
        return found or self._new_input(tensor)

    def add_input(self, tensor: Tensor) -> None:
        """Start to follow an input of the model."""
        if not self.knows(tensor):
            self._new_input(tensor)

    def _new_input(self, tensor: Tensor) -> Record:
        if is_functorch_wrapped_tensor(tensor):
            self._transform(get_unwrapped(tensor))
        pinned = [self.solver.atom(n, "input of the model") for n in tensor.shape]
        self.see(pinned)
        self._records[tensor] = record = Record(pinned, live=True)
        return record

    def _escape(self) -> None:
        """A tensor was computed out of sight (a scripted function, a kernel): anything went in."""
        self.unknown[UNSEEN] = None
        for atom in self.solver.atoms:
            atom.pin = atom.pin or "may pass through an operation that cannot be followed"

    def _transform(self, tensor: Tensor) -> None:
        """A tensor goes into or comes out of a transform, which hides what becomes of its axes."""
        if not all(atom.pin for axis in self.axes(tensor) for atom in leaves(axis)):
            self.unknown["a transform of functions, such as vmap"] = None
            self.pin("passes through a transform of functions", *self.axes(tensor))

    def knows(self, tensor: Tensor) -> bool:
        """Whether a tensor has been seen."""
        return tensor in self._records

    def axes(self, tensor: Tensor) -> list[Term]:
        """What each axis of a tensor runs over."""
        return self.record(tensor).axes

    def put(self, tensor: Tensor, axes: Sequence[Term], uniform: bool = False) -> None:
        """Record the axes of the result of an operation.

        Axes whose size does not fit are replaced by pinned ones: nothing is known about them.
        """
        fitting = [
            axis if size(axis) == n else self.fresh(n, "nothing is known about it")
            for axis, n in zip(axes, tensor.shape, strict=True)
        ]
        equal_at = version(tensor) if uniform else None
        self._records[tensor] = Record(fitting, live=False, equal_at=equal_at)

    def is_uniform(self, tensor: Tensor) -> bool:
        """Whether all entries of a tensor are known to be equal."""
        equal_at = self.record(tensor).equal_at
        return equal_at is not None and equal_at == version(tensor)

    def derive(self, outputs: Iterable[Tensor], inputs: Sequence[Record], kind: Kind) -> None:
        """Record where results come from: whether they are activations, and their depth."""
        live = any(record.live for record in inputs)
        sources = frozenset[str]().union(*(r.sources for r in inputs if not r.live))
        depth = max((record.depth for record in inputs), default=0)
        if live:
            for name in sorted(sources):
                use = self.uses[name]
                if use.depth is None:
                    use.kind, use.depth = kind, depth
        for tensor in outputs:
            record = self.record(tensor)
            record.live, record.depth = live, depth + (live and bool(sources))
            record.sources = frozenset() if live else sources
            self._exists(record)
            if is_functorch_wrapped_tensor(tensor):
                self._transform(tensor)

    def activate(self, activation: str, outputs: Iterable[Tensor]) -> None:
        """Record that an activation function made some tensors."""
        axes = [axis for tensor in outputs for axis in self.axes(tensor)]
        self.activated += [(activation, axis) for axis in axes]

    def wrote(self, tensor: Tensor, before: Sequence[Term], inputs: Sequence[Record]) -> None:
        """Record that an operation wrote into a tensor, and so into what that is a view of.

        `before` are its axes before the operation, `inputs` what was known of all that went in.
        """
        for old, new in zip(before, self.axes(tensor), strict=False):
            if size(old) == size(new):
                self.solver.unify(old, new)
            else:
                self.pin("its shape was changed in place", old, new)
        for written in [t for t in (tensor, tensor._base) if t is not None]:
            record = self.record(written)
            record.live |= any(other.live for other in inputs)
            record.sources |= frozenset[str]().union(*(other.sources for other in inputs))
            record.depth = max([record.depth, *(other.depth for other in inputs)])
            self._exists(record)

    def _exists(self, record: Record) -> None:
        self.solver.settle(record.axes)
        self.see(record.axes if record.live else ())

    def see(self, axes: Iterable[Term]) -> None:
        """Record that the atoms of axes stand in an activation."""
        for axis in axes:
            for atom in leaves(axis):
                if atom.seen is None:
                    atom.seen = self._clock
                    self._clock += 1

    def fresh(self, n: int, pin: str = "") -> Term:
        """Return a new axis of `n` indices of which nothing is known yet."""
        return self.solver.atom(n, pin)

    def free(self, n: int) -> Term:
        """Return a new axis that does not run over neurons."""
        return self.solver.atom(n, "not neurons", free=True)

    def make_free(self, axis: Term) -> None:
        """Record that an axis does not run over neurons."""
        self.solver.unify(axis, self.free(size(axis)))

    def unify(self, *axes: Term) -> Term:
        """Record that axes run over the same indices, and return one of them."""
        for axis in axes[1:]:
            self.solver.unify(axes[0], axis)
        return axes[0]

    def pin(self, reason: str, *axes: Term) -> None:
        """Record that the indices of axes cannot be permuted."""
        for axis in axes:
            self.solver.pin(axis, reason)

    def mix(self, tensor: Tensor, dims: Iterable[int]) -> None:
        """Record that an operation treats all indices along some dims alike, together."""
        axes = self.axes(tensor)
        self.solver.mix(axes, [d % len(axes) for d in dims] if axes else [])

    def meet(self, *axes: Term) -> None:
        """Record that an operation combines entries over all these axes, before it sums them up."""
        self.solver.settle(axes)

    def factor(self, axis: Term, sizes: Sequence[int]) -> list[Term]:
        """View an axis as a product of axes, slowest first. One size may be -1."""
        if size(axis) == 0:
            return [self.fresh(max(n, 0), "it is empty") for n in sizes]
        missing = size(axis) // max(-math.prod(sizes), 1)
        return views.factor(self.solver, axis, [missing if n == -1 else n for n in sizes])

    def take(self, axes: Sequence[Term], dim: int, start: int, length: int) -> list[Term]:
        """Axes of a tensor of which a range of one dim is kept."""
        kept, choice = views.narrow(self.solver, axes[dim], start, length)
        result = [specialise(axis, choice) for axis in axes] if choice else list(axes)
        result[dim] = kept
        return result

    def broadcast(self, shape: Sequence[int], *tensors: Tensor) -> list[Term]:
        """Unify the axes of tensors that are combined entry by entry, and return the result's."""
        result = []
        for back in range(len(shape), 0, -1):
            n = shape[-back]
            meeting = [
                (self.is_uniform(tensor), self.axes(tensor)[-back])
                for tensor in tensors
                if tensor.dim() >= back and tensor.shape[-back] == n
            ]
            constrained = [axis for uniform, axis in meeting if not uniform]
            candidates = constrained or [axis for _, axis in meeting]
            result.append(
                ONE if n == 1 else self.unify(*candidates) if candidates else self.fresh(n)
            )
        return result

    def contract(self, inputs: Sequence[str], output: str, tensors: Sequence[Tensor]) -> list[Term]:
        """Axes of a sum of products, in the manner of `einsum`.

        Args:
            inputs: one letter per axis of each tensor; axes of the same letter are the same.
            output: letters of the result; the others are summed over.
            tensors: the factors.
        """
        axes: dict[str, Term] = {}
        for letters, tensor in zip(inputs, tensors, strict=True):
            for letter, axis in zip(letters, self.axes(tensor), strict=True):
                if letter in axes and size(axes[letter]) == 1:
                    axes[letter] = axis
                elif letter in axes and size(axis) > 1:
                    self.unify(axes[letter], axis)
                axes.setdefault(letter, axis)
        self.meet(*axes.values())
        live = any(self.record(tensor).live for tensor in tensors)
        for i, (letters, tensor) in enumerate(zip(inputs, tensors, strict=True)):
            self.mix(tensor, [d for d, letter in enumerate(letters) if letter not in output])
            others = set().union(*inputs[:i], *inputs[i + 1 :])
            summed = [axes[x] for x in letters if x in others and x not in output]
            shared = [axes[x] for x in letters if x in others and x in output]
            self.see(summed)
            if live:
                self.use(tensor, summed, shared)
        return [axes[letter] for letter in output]

    def use(self, weight: Tensor, summed: Iterable[Term], shared: Iterable[Term] = ()) -> None:
        """Record which axes of a weight a product sums over and which it shares with the input."""
        record = self.record(weight)
        for name in record.sources if not record.live else ():
            self.uses[name].contracted.update(a for axis in summed for a in leaves(axis))
            self.uses[name].batched.update(a for axis in shared for a in leaves(axis))

    def concat(self, axes: Sequence[Term]) -> Term:
        """Axis of parts one after another."""
        return axes[0] if len(axes) == 1 else Concat(tuple(axes))

    def product(self, *axes: Term) -> Term:
        """Axis of a row-major product (a flattened tensor)."""
        return axes[0] if len(axes) == 1 else Product(tuple(axes))

    def give_up(self, operation: str, tensors: Iterable[Tensor]) -> None:
        """Pin everything that passes through an operation without a handler, and note its name."""
        self.unknown[operation] = None
        for tensor in tensors:
            self.pin(f"passes through {operation}, which has no handler", *self.axes(tensor))


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written into; None in inference mode, which does not count that."""
    return None if tensor.is_inference() else tensor._version
