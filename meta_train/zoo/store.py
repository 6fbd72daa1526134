"""A zoo: trained networks in a folder, stacked by architecture, with what is known of each.

The folder of a finished zoo has `index.json`, a file `networks-*.safetensors` of stacked tensors
for each architecture, and `table.safetensors` with columns and examples. The index holds the
digests of the others and its own, and is written last.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from meta_train.cache import digest
from meta_train.errors import MetaTrainError
from meta_train.zoo.architecture import Architecture
from ngopt.encoders.networks import Networks, Stack
from ngopt.errors import OF_DAMAGED_DATA
from ngopt.graph.plain_data import from_plain
from ngopt.nn.files import fingerprint

FORMAT = "ngopt-zoo-1"
INDEX = "index.json"
TABLE = "table.safetensors"
SPLITS = ("train", "validation", "test")
COLUMN, EXAMPLE = "columns/", "examples/"
"""What the names of tensors of the table begin with."""


@dataclass(frozen=True, eq=False)
class Zoo:
    """Snapshots of trained networks. Their numbers, from 0, are their places in the columns.

    Args:
        folder: where it was read from.
        kind: of the networks, such as `inr`.
        options: that it was made with, as plain data.
        stacks: the networks, by architecture.
        columns: a number or a label of each snapshot, `(snapshots,)` each. `run` tells which
            snapshots are of one training, `split` which part it belongs to.
        categories: names of the values 0, 1, ... of the columns that are labels.
        examples: what else belongs to each snapshot, `(snapshots, ...)` each.
        places: architecture and place in its stack, `(snapshots, 2)`.
        dropped: number of runs that were left out because they diverged.
    """

    folder: Path
    kind: str
    options: Mapping[str, Any]
    stacks: tuple[Stack, ...]
    columns: Mapping[str, Tensor]
    categories: Mapping[str, tuple[str, ...]]
    examples: Mapping[str, Tensor]
    places: Tensor
    dropped: int = 0

    @classmethod
    def open(cls, folder: str | Path) -> "Zoo":
        """Read a finished zoo. Everything is loaded and checked.

        Args:
            folder: of the zoo.

        Raises:
            MetaTrainError: if it is missing, not finished, damaged, or contradicts itself.
        """
        folder = Path(folder)
        index = read_index(folder)
        if index is None:
            raise MetaTrainError(
                f"there is no finished zoo in {folder}.\n"
                "  Make one with `python -m meta_train zoo`; the command that was stopped goes on."
            )
        try:
            zoo = _read(cls, folder, index)
            _check(zoo, index["snapshots"])
        except (*OF_DAMAGED_DATA, OSError, SafetensorError) as error:
            raise damaged(folder, str(error)) from error
        return zoo

    def __len__(self) -> int:
        return len(self.places)

    def split(self, name: str) -> Tensor:
        """Return the numbers of the snapshots of a part, in order, int64.

        No run has snapshots in two parts.

        Args:
            name: `train`, `validation` or `test`.
        """
        if name not in SPLITS:
            raise MetaTrainError(f"there is no split `{name}`.\n  Use one of: {', '.join(SPLITS)}.")
        return (self.columns["split"] == SPLITS.index(name)).nonzero().flatten()

    def networks(self, index: Tensor) -> Networks:
        """Return snapshots as networks, in this order.

        Args:
            index: their numbers, `(chosen,)`; they may repeat.
        """
        index = index.to(self.places.device)
        architecture, row = self.places[index].unbind(1)
        if len(self.stacks) == 1:
            return Networks((self.stacks[0].select(row),))
        stacks, order = [], []
        for number in sorted(set(architecture.tolist())):
            found = (architecture == number).nonzero().flatten()
            stacks.append(self.stacks[number].select(row[found]))
            order.append(found)
        return Networks(tuple(stacks), torch.cat(order) if order else index)

    def to(self, device: torch.device | str) -> "Zoo":
        """Return the same zoo with all tensors, and its models, on a device."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        stacks = (
            replace(stack.to(device), model=stack.model and deepcopy(stack.model).to(device))
            for stack in self.stacks
        )
        return replace(
            self,
            stacks=tuple(stacks),
            columns=moved(self.columns),
            examples=moved(self.examples),
            places=self.places.to(device),
        )


def read_index(folder: Path) -> dict[str, Any] | None:
    """Read the index of a zoo; None if there is none, so that the zoo is not finished.

    Raises:
        MetaTrainError: if it is damaged or of another version.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        index: dict[str, Any] = json.loads(path.read_text("utf-8"))
        stated = index.pop("sha256")
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}, not {FORMAT!r}")
        if stated != digest(index):
            raise ValueError(f"the digest of {INDEX} does not fit")
    except (*OF_DAMAGED_DATA, OSError) as error:
        raise damaged(folder, str(error)) from error
    return index


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a file by name, and its metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def damaged(folder: Path, why: str) -> MetaTrainError:
    """Return the error of a zoo that cannot be read."""
    return MetaTrainError(
        f"the zoo in {folder} cannot be read: {why}.\n"
        "  Copy it again, or move it away and make it anew with the command in its index."
    )


def _read(cls: type[Zoo], folder: Path, index: Mapping[str, Any]) -> Zoo:
    table = _read_checked(folder, index["table"])
    stacks = [_stack(folder, entry) for entry in index["architectures"]]
    named = {
        start: {n.removeprefix(start): t for n, t in table.items() if n.startswith(start)}
        for start in (COLUMN, EXAMPLE)
    }
    return cls(
        folder,
        index["kind"],
        index["options"],
        tuple(stacks),
        named[COLUMN],
        {name: tuple(values) for name, values in index["categories"].items()},
        named[EXAMPLE],
        table["places"],
        index["dropped"],
    )


def _read_checked(folder: Path, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    try:
        tensors, _ = read_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
    if fingerprint(tensors) != entry["sha256"]:
        raise ValueError(f"{path.name} holds other numbers than the index says")
    return tensors


def _stack(folder: Path, entry: Mapping[str, Any]) -> Stack:
    tensors = _read_checked(folder, entry)
    architecture = Architecture(entry["model"], entry["config"])
    model = architecture.build()
    # Traced again, for a newer ngopt may tell more of the same graph, such as activations.
    graph = architecture.trace(model)
    if graph != from_plain(entry["graph"]):
        raise ValueError(f"the graph of {entry['file']} is that of another model")
    buffers = {name: tensor for name, tensor in tensors.items() if name not in graph.parameters}
    unknown = sorted(set(buffers) - {name for name, _ in model.named_buffers()})
    if unknown:
        raise ValueError(f"{entry['file']} holds `{unknown[0]}`, which its model has not")
    # In the order of the model, which files do not keep.
    parameters = {name: tensors[name] for name in graph.parameters if name in tensors}
    stack = Stack(graph, parameters, model, buffers or None)
    for name, tensor in stack.parameters.items():
        if not tensor.isfinite().all():
            raise ValueError(f"`{name}` in {entry['file']} is not finite everywhere")
    if len(stack) != entry["networks"]:
        raise ValueError(
            f"{entry['file']} holds {len(stack)} networks, the index says {entry['networks']}"
        )
    return stack


def _check(zoo: Zoo, snapshots: int) -> None:
    """Raise ValueError unless the table fits the networks and itself."""
    lengths = {name: len(t) for name, t in (*zoo.columns.items(), *zoo.examples.items())}
    wrong = [name for name, length in lengths.items() if length != snapshots]
    if wrong or tuple(zoo.places.shape) != (snapshots, 2):
        raise ValueError(
            f"the index says {snapshots} snapshots, the table has {lengths.get(wrong[0])} of "
            f"`{wrong[0]}`"
            if wrong
            else f"the index says {snapshots} snapshots, {len(zoo.places)} have a place"
        )
    whole = [(number, row) for number, stack in enumerate(zoo.stacks) for row in range(len(stack))]
    if sorted(map(tuple, zoo.places.tolist())) != whole:
        raise ValueError("not every network belongs to one snapshot")
    check_columns(zoo.columns, zoo.categories)


def check_columns(columns: Mapping[str, Tensor], categories: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless labels have names and each run is in one split.

    Args:
        columns: of a zoo, `(snapshots,)` each.
        categories: names of the values of those that are labels.
    """
    for name, values in categories.items():
        column = columns[name]
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < len(values):
            raise ValueError(f"column `{name}` has values without a name")
    pairs = set(zip(columns["run"].tolist(), columns["split"].tolist(), strict=True))
    if len({run for run, _ in pairs}) != len(pairs):
        raise ValueError("a run has snapshots in two splits")
