"""Making a zoo in chunks, each of which follows from the options and its number alone.

Chunks are files in the folder `chunks` of the zoo until all are there. A command that was killed
goes on with those that are missing, and several commands share them: the zoo is bitwise the same.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from meta_train.cache import digest
from meta_train.errors import MetaTrainError
from meta_train.provenance import command, commit
from meta_train.shared_files import write_tensors, write_text
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.store import (
    COLUMN,
    EXAMPLE,
    FORMAT,
    INDEX,
    SPLITS,
    TABLE,
    Zoo,
    check_columns,
    read_index,
    read_tensors,
)
from ngopt.errors import OF_DAMAGED_DATA
from ngopt.graph.plain_data import to_plain
from ngopt.nn.files import fingerprint

PLAN = "plan.json"
CHUNKS = "chunks"


@dataclass(frozen=True)
class Part:
    """Snapshots of networks of one architecture.

    Args:
        architecture: builds their model.
        tensors: parameters and state buffers by name, `(snapshots, *shape)` each.
        columns: a number or a label of each, `(snapshots,)` each. There must be `run`, the number
            of the training, and `split`, a place in :data:`~meta_train.zoo.store.SPLITS`.
        examples: what else belongs to each, `(snapshots, ...)` each.
    """

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    examples: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["run"])


@dataclass(frozen=True)
class Chunk:
    """What one piece of the work gives.

    Args:
        parts: snapshots, in the order of the zoo.
        dropped: number of runs that diverged and are left out.
    """

    parts: Sequence[Part]
    dropped: int = 0


class ZooWriter:
    """Collects the chunks of a zoo in its folder.

    Args:
        folder: of the zoo; made if there is none.
        kind: of the networks, such as `inr`.
        options: all that the networks follow from, as plain data.
        chunks: how many there are.

    Raises:
        MetaTrainError: if the folder holds a zoo of other options.
    """

    def __init__(self, folder: Path, kind: str, options: Mapping[str, Any], chunks: int) -> None:
        self.folder, self.kind, self.chunks = folder, kind, chunks
        self._chunks = folder / CHUNKS
        plan = {"kind": kind, "options": dict(options), "chunks": chunks}
        self._plan: dict[str, Any] = json.loads(json.dumps(plan))
        self._key = digest(self._plan)
        index = read_index(folder)
        self._compare(index if index is not None else self._begun())
        if not self.finished:
            self._chunks.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / PLAN, json.dumps(self._plan, indent=1))

    @property
    def finished(self) -> bool:
        """Whether all chunks are put together."""
        return (self.folder / INDEX).is_file()

    def missing(self) -> list[int]:
        """Return the numbers of the chunks that are not there yet."""
        return [n for n in range(self.chunks) if not self.has(n)]

    def has(self, number: int) -> bool:
        """Whether a chunk is there, or the zoo finished."""
        return self._path(number).is_file() or self.finished

    def write(self, number: int, chunk: Chunk) -> None:
        """Keep a chunk; at every moment either all of it is there or none of it."""
        tensors, parts = {}, []
        for place, part in enumerate(chunk.parts):
            groups = {"tensors": part.tensors, "columns": part.columns, "examples": part.examples}
            for group, named in groups.items():
                for name, tensor in named.items():
                    tensors[f"{place}/{group}/{name}"] = tensor.detach().cpu().contiguous()
            parts.append(part.architecture.plain())
        metadata = {
            "key": self._key,
            "parts": json.dumps(parts),
            "dropped": str(chunk.dropped),
            "sha256": fingerprint(tensors),
        }
        self._chunks.mkdir(exist_ok=True)  # another process may have finished and removed it
        write_tensors(self._path(number), tensors, metadata)

    def read(self, number: int) -> Chunk:
        """Read a chunk.

        Raises:
            MetaTrainError: if it is damaged.
        """
        path = self._path(number)
        try:
            tensors, metadata = read_tensors(path)
            if metadata["sha256"] != fingerprint(tensors) or metadata["key"] != self._key:
                raise ValueError("its digest does not fit")
            parts = [
                Part(Architecture(**plain), **_groups(tensors, place))
                for place, plain in enumerate(json.loads(metadata["parts"]))
            ]
            return Chunk(parts, int(metadata["dropped"]))
        except (*OF_DAMAGED_DATA, OSError, SafetensorError) as error:
            raise MetaTrainError(
                f"the chunk {path} is damaged ({error}).\n"
                "  Remove it, and the same command makes it again."
            ) from error

    def finish(self, categories: Mapping[str, Sequence[str]]) -> Zoo:
        """Put the chunks together, once all are there, and remove them.

        Args:
            categories: names of the values 0, 1, ... of the columns that are labels.

        Raises:
            MetaTrainError: if a chunk is missing or damaged; nothing is changed then.
        """
        missing = self.missing()
        if missing:
            raise MetaTrainError(
                f"the zoo in {self.folder} lacks {len(missing)} of {self.chunks} chunks.\n"
                "  Make them first; the same command goes on."
            )
        if not self.finished:
            try:
                chunks = [self.read(number) for number in range(self.chunks)]
            except MetaTrainError:
                if not self.finished:  # another process may have put them together meanwhile
                    raise
            else:
                self._join(chunks, categories)
        zoo = Zoo.open(self.folder)
        shutil.rmtree(self._chunks, ignore_errors=True)
        (self.folder / PLAN).unlink(missing_ok=True)
        return zoo

    def _join(self, chunks: Sequence[Chunk], categories: Mapping[str, Sequence[str]]) -> None:
        parts = [part for chunk in chunks for part in chunk.parts]
        groups: dict[str, list[Part]] = {}
        for part in parts:
            groups.setdefault(_name(part), []).append(part)
        numbers, filled = {name: n for n, name in enumerate(groups)}, dict.fromkeys(groups, 0)
        places: list[tuple[int, int]] = []
        for part in parts:
            name = _name(part)
            places += [(numbers[name], filled[name] + row) for row in range(len(part))]
            filled[name] += len(part)
        names = {"split": SPLITS, **categories}
        columns = _joined([part.columns for part in parts])
        check_columns(columns, names)
        table = {
            **{COLUMN + name: tensor for name, tensor in columns.items()},
            **{EXAMPLE + n: t for n, t in _joined([part.examples for part in parts]).items()},
            "places": torch.tensor(places),
        }
        index = {
            "format": FORMAT,
            **self._plan,
            "command": command(),
            "commit": commit(),
            "snapshots": len(places),
            "dropped": sum(chunk.dropped for chunk in chunks),
            "categories": {name: list(values) for name, values in names.items()},
            "architectures": [
                self._write_stack(number, group) for number, group in enumerate(groups.values())
            ],
            "table": self._write(TABLE, table),
        }
        write_text(self.folder / INDEX, json.dumps(index | {"sha256": digest(index)}))

    def _write_stack(self, number: int, group: Sequence[Part]) -> dict[str, Any]:
        stacked = _joined([part.tensors for part in group])
        architecture = group[0].architecture
        return {
            **architecture.plain(),
            **self._write(f"networks-{number:03d}.safetensors", stacked),
            "graph": to_plain(architecture.trace()),
            "networks": sum(map(len, group)),
        }

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        write_tensors(self.folder / name, tensors, {})
        return {"file": name, "sha256": fingerprint(tensors)}

    def _path(self, number: int) -> Path:
        return self._chunks / f"{number:06d}.safetensors"

    def _begun(self) -> Mapping[str, Any] | None:
        path = self.folder / PLAN
        if not path.is_file():
            return None
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except ValueError as error:
            raise MetaTrainError(
                f"{path} is damaged ({error}).\n  Move the folder away to make the zoo anew."
            ) from error

    def _compare(self, found: Mapping[str, Any] | None) -> None:
        if found is None:
            return
        own, other = (
            plan.get("options", {}) | {key: plan.get(key) for key in ("kind", "chunks")}
            for plan in (self._plan, found)
        )
        wrong = sorted(key for key in {*own, *other} if own.get(key) != other.get(key))
        if wrong:
            details = ", ".join(f"{n} is {other.get(n)!r}, not {own.get(n)!r}" for n in wrong[:5])
            raise MetaTrainError(
                f"{self.folder} holds another zoo: {details}.\n"
                "  Use another --folder, or the options of that zoo to go on with it."
            )


def _name(part: Part) -> str:
    return json.dumps(part.architecture.plain(), sort_keys=True)


def _groups(tensors: Mapping[str, Tensor], place: int) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {"tensors": {}, "columns": {}, "examples": {}}
    for key, tensor in tensors.items():
        owner, group, name = key.split("/", 2)
        if int(owner) == place:
            groups[group][name] = tensor
    return groups


def _joined(named: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    first = named[0] if named else {}
    if any(set(other) != set(first) for other in named):
        raise MetaTrainError("the parts of a zoo have different columns.\n  Give all the same.")
    return {name: torch.cat([other[name] for other in named]) for name in first}
