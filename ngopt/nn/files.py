"""Networks in files: safetensors with the class, its config and a hash of the weights."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import isabstract
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ngopt.errors import OF_DAMAGED_DATA, NgoptError
from ngopt.nn.size_limit import SizeLimit

SUFFIX = ".safetensors"
SPARE = 2**16
"""Numbers that a network may make as it is built, beside a hundred for each of its weights."""

M = TypeVar("M", bound=nn.Module)


def _nothing_more(module: nn.Module, metadata: Mapping[str, str]) -> None:
    """What else a file tells of a network: nothing."""


@dataclass(frozen=True)
class Files(Generic[M]):
    """Files of networks of one kind. Each network has a `config` that builds it again.

    Args:
        word: what a network of this kind is called.
        format: tells its files from others.
        base: class of all of them; classes are found by name among those imported so far.
        error: raised where a file is not what it should be.
        save: the function that writes them, for messages.
        finish: sets what a network has beside weights, from the metadata of its file; raises
            `ValueError` if that makes no sense.
        new_names: of options that older files know by another name, by that name.
    """

    word: str
    format: str
    base: type[M]
    error: type[NgoptError]
    save: str
    finish: Callable[[M, Mapping[str, str]], None] = _nothing_more
    new_names: Mapping[str, str] = field(default_factory=dict)

    def write(self, module: M, path: str | PathLike[str], **more: str) -> None:
        """Write a network; a file that is there already is replaced when the new one is whole.

        Args:
            module: the network; its config must be plain data.
            path: the file; must end in `.safetensors`.
            more: goes into the metadata.
        """
        if Path(path).suffix != SUFFIX:
            article = "an" if self.word[0] in "aeiou" else "a"
            raise self.error(
                f"cannot save {article} {self.word} as `{path}`.\n"
                f"  Use a path that ends in {SUFFIX}."
            )
        weights = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
        metadata = {
            "format": self.format,
            self.word: type(module).__name__,
            "config": json.dumps(module.config, sort_keys=True),
            "sha256": fingerprint(weights),
            **more,
        }
        partial = Path(f"{path}.partial")
        try:
            # safetensors' own files can be read by their owner alone.
            partial.write_bytes(save(weights, metadata))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, path: Path) -> M:
        """Read a network from a file that is there."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise self.error(
                f"the file `{path}` is damaged ({error}).\n  Copy or save it again."
            ) from error
        if metadata.get("format") != self.format:
            raise self.error(
                f"the file `{path}` holds no {self.word} of this version of ngopt: its format is "
                f"{metadata.get('format')!r}, not {self.format!r}.\n"
                f"  Save the {self.word} with {self.save}."
            )
        if metadata.get("sha256") != fingerprint(weights):
            raise self.error(
                f"the file `{path}` is damaged: its weights are not those that were saved.\n"
                "  Copy or save it again."
            )
        self._check_numbers(path, weights)
        module = self._build(path, metadata, sum(tensor.numel() for tensor in weights.values()))
        self._fill(path, module, weights)
        return module

    def classes(self) -> dict[str, type[M]]:
        """Every class of this kind that has been imported and can be built, by name."""
        waiting: list[type[M]] = self.base.__subclasses__()
        found = {}
        while waiting:
            cls = waiting.pop()
            waiting.extend(cls.__subclasses__())
            if not isabstract(cls):
                found[cls.__name__] = cls
        return found

    def _check_numbers(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            if not (tensor.is_floating_point() and tensor.isfinite().all()):
                raise self.error(
                    f"the weights `{name}` in `{path}` are not all finite numbers "
                    f"({tensor.dtype}).\n  Save the {self.word} again, from before its training "
                    "diverged."
                )

    def _build(self, path: Path, metadata: Mapping[str, str], weights: int) -> M:
        name = metadata.get(self.word)
        classes = self.classes()
        if name not in classes:
            raise self.error(
                f"the file `{path}` holds a `{name}`, which is none of the known {self.word}s: "
                f"{', '.join(sorted(classes))}.\n  Import the module that defines it first."
            )
        try:
            config = with_new_names(json.loads(metadata["config"]), self.new_names)
            with SizeLimit(SPARE + 100 * weights):
                module = classes[name](**config)
            self.finish(module, metadata)
            return module
        except OF_DAMAGED_DATA as error:
            raise self.error(
                f"the file `{path}` does not tell how to build its `{name}` ({error}).\n"
                "  It was saved by another version of ngopt: save it again with this one."
            ) from error

    def _fill(self, path: Path, module: M, weights: Mapping[str, Tensor]) -> None:
        expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        wrong = sorted(
            name for name in {*expected, *found} if expected.get(name) != found.get(name)
        )
        if wrong:
            details = "; ".join(
                f"`{name}` is {found.get(name, 'absent')}, should be {expected.get(name, 'absent')}"
                for name in wrong[:3]
            )
            raise self.error(
                f"the weights in `{path}` do not fit a {type(module).__name__} of its config: "
                f"{details} ({len(wrong)} in all).\n  Save the {self.word} again with {self.save}."
            )
        module.load_state_dict(weights)


def with_new_names(config: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    """Rename options of a config that were called otherwise when it was saved.

    Args:
        config: names and values of options; a value may itself be such a config.
        new_names: by the old names.
    """
    return {
        new_names.get(name, name): with_new_names(value, new_names)
        if isinstance(value, Mapping)
        else value
        for name, value in config.items()
    }


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights: names, dtypes, shapes and values, whatever the device."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(data.numpy().tobytes())
    return digest.hexdigest()
