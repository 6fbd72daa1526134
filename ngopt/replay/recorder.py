"""Record what a function does to memory: each operation of torch, each compiled loop."""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from ngopt.fused import kernel
from ngopt.fused.switch import listening
from ngopt.replay.containers import flat
from ngopt.replay.instructions import Launch
from ngopt.replay.window import Window

aten = torch.ops.aten

EMPTY = (
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
)
"""They find memory, and write nothing."""

FILLS = (
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.ones.default,
    aten.ones_like.default,
    aten.full.default,
    aten.full_like.default,
)
"""They write the same number everywhere. Other functions without arguments return constants, which
may not be written to."""

RESHAPES = (
    aten.squeeze_.dim,
    aten.squeeze_.dims,
    aten.unsqueeze_.default,
    aten.transpose_.default,
    aten.t_.default,
)
"""They change how memory is looked at, not what is in it."""


PLAIN = {int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format}
"""Types of arguments that are no tensors."""

CHANCE = {torch.Tag.nondeterministic_seeded}
"""Tags of what is random."""


class UnsupportedError(Exception):
    """Something cannot be replayed; what is recorded is run as it is then."""


class Role(Enum):
    """Whose memory a storage is."""

    GIVEN = "an argument, another one in each run"
    CONSTANT = "there before, such as the weights of a rule"
    MADE = "written before it is read, in each run"


class Storage(NamedTuple):
    """Memory that is read or written.

    Args:
        role: whose it is.
        size: in bytes; of an argument, from its first entry on.
        tensor: that it belongs to; kept only if it is constant.
    """

    role: Role
    size: int
    tensor: Tensor | None = None


class Call(NamedTuple):
    """An operation of torch, with windows instead of tensors."""

    function: Any
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: Any


class Recording(NamedTuple):
    """What a function did.

    Args:
        storages: all memory, the arguments' first.
        calls: in order.
        results: what it returned, flat.
    """

    storages: list[Storage]
    calls: list[Call | Launch]
    results: list[Window]


def record(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Recording, Any]:
    """Run a function, and write down what it does.

    Args:
        function: of nested containers of tensors, which it does not change; what it does follows
            from their shapes, strides and dtypes alone.
        arguments: the containers.

    Returns:
        The recording, and what the function returned.

    Raises:
        UnsupportedError: if that cannot be written down.
    """
    given, _ = flat(arguments)
    if overlap(given):
        arguments = copied(arguments)
        given, _ = flat(arguments)
    recorder = Recorder(given)
    with torch.no_grad(), listening(recorder.launch), recorder:
        returned = function(*arguments)
    results = [recorder.window(leaf) for leaf in flat(returned)[0]]
    return Recording(recorder.storages, recorder.calls, results), returned


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what happens while it is active.

    Args:
        given: the arguments, each in memory of its own.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: list[Storage] = []
        self._asked = 0
        self.calls: list[Call | Launch] = []
        spans: list[tuple[int, int, int]] = []
        # Weak references keep the addresses of storages from being used again.
        self._known: dict[int, tuple[int, StorageWeakRef]] = {}
        self._given = {tensor.untyped_storage()._cdata for tensor in given}
        for tensor in given:
            start, end = _span(tensor)
            spans.append((start, end, len(self.storages)))
            self.storages.append(Storage(Role.GIVEN, end - start))
        self._sorted = sorted(spans)
        self._starts = [start for start, _, _ in self._sorted]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and write it down, unless it only looks at memory in another way."""
        options = dict(kwargs or {})
        if func is aten._local_scalar_dense.default or not CHANCE.isdisjoint(func.tags):
            raise UnsupportedError(f"{func} has another result in each run")
        if func in RESHAPES:
            return func(*args, **options)
        before = self._asked
        arguments, named = self._windows(args), self._windows(options)
        read = self._asked > before
        result = func(*args, **options)
        news = [leaf for leaf in _tensors(result) if not self._knows(leaf)]
        if not (news or func._schema.is_mutable):
            return result
        if not (read or func in EMPTY or func in FILLS):
            for leaf in news:
                self._add(leaf, Storage(Role.CONSTANT, 0, leaf))
            return result
        if func._schema.is_mutable:
            self._check_writable(result)
        for leaf in news:
            self._add(leaf, Storage(Role.MADE, leaf.untyped_storage().nbytes()))
        if func not in EMPTY:
            self.calls.append(Call(func, arguments, named, self._windows(result)))
        return result

    def launch(self, launch: kernel.Launch) -> None:
        """Write down a compiled loop."""
        inputs = tuple(map(self.window, launch.inputs))
        windows = [(self.window(tensor), offset) for tensor, offset in launch.outputs]
        outputs = tuple(replace(w, offset=w.offset + offset) for w, offset in windows)
        self.calls.append(Launch(launch.pointer, launch.rows, launch.columns, inputs, outputs))

    def window(self, tensor: Tensor) -> Window:
        """Where a tensor lies. Memory that is not known yet is constant from now on."""
        lazy = tensor.is_conj() or tensor.is_neg()
        if lazy or tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise UnsupportedError("a tensor that is not a plain one on the CPU")
        storage = tensor.untyped_storage()
        shape, stride = tuple(tensor.shape), tensor.stride()
        address = tensor.data_ptr()
        if storage._cdata in self._given:
            if not tensor.numel():  # Nothing is read there, so it does not matter where that is.
                return Window(0, 0, shape, stride, tensor.dtype)
            place = bisect(self._starts, address) - 1
            start, end, number = self._sorted[max(place, 0)]
            if start <= address < end:
                return Window(number, address - start, shape, stride, tensor.dtype)
            raise UnsupportedError("memory beside an argument")
        if not self._knows(tensor):
            self._add(tensor, Storage(Role.CONSTANT, 0, tensor))
        number, _ = self._known[storage._cdata]
        return Window(number, address - storage.data_ptr(), shape, stride, tensor.dtype)

    def _knows(self, tensor: Tensor) -> bool:
        address = tensor.untyped_storage()._cdata
        return address in self._given or address in self._known

    def _add(self, tensor: Tensor, storage: Storage) -> None:
        memory = tensor.untyped_storage()
        self._known[memory._cdata] = (len(self.storages), StorageWeakRef(memory))  # type: ignore[no-untyped-call]
        self.storages.append(storage)

    def _windows(self, tree: Any) -> Any:
        # What torch's own function for this does, for the containers that there are, in less time.
        if isinstance(tree, Tensor):
            self._asked += 1
            return self.window(tree)
        if tree is None or type(tree) in PLAIN:
            return tree
        if type(tree) in (tuple, list):
            return type(tree)(map(self._windows, tree))
        if isinstance(tree, Mapping):
            return {key: self._windows(value) for key, value in tree.items()}
        raise UnsupportedError(f"an argument that is {type(tree).__name__}")

    def _check_writable(self, result: Any) -> None:
        for leaf in _tensors(result):
            if self.storages[self.window(leaf).storage].role is not Role.MADE:
                raise UnsupportedError("an argument or a constant is changed")


def _tensors(result: Any) -> list[Tensor]:
    """What an operation returns, without what is no tensor."""
    if isinstance(result, Tensor):
        return [result]
    return [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]


def overlap(tensors: Sequence[Tensor]) -> bool:
    """Whether any tensors share memory, so that an address does not tell whose it is."""
    spans = sorted(map(_span, tensors))
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def copied(tree: Any) -> Any:
    """Copy nested containers of tensors, which keep their strides, even where entries overlap."""
    return tree_map_only(Tensor, _copied, tree)


def _copied(tensor: Tensor) -> Tensor:
    start, end = _span(tensor)
    tensor = tensor.detach()
    memory = tensor.as_strided(((end - start) // tensor.element_size(),), (1,))
    return memory.clone().as_strided(tensor.shape, tensor.stride(), 0)


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte and of that after the last."""
    entries = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (entries + 1) * tensor.element_size() * (tensor.numel() > 0)
