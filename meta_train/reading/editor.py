"""A network that changes networks, and how far their images are from the edited ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from meta_train.reading.fit import Reading
from meta_train.reading.scores import Resamples, Score
from meta_train.zoo.pictures import BRIGHTEST
from meta_train.zoo.siren import render
from meta_train.zoo.store import Zoo
from ngopt.encoders.networks import Networks

AT_ONCE, SHOWN = 256, 8
FILE = "edited.safetensors"


def _mean(predicted: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
    return resamples.mean(predicted - true)


ERROR = Score("squared error", False, _mean)
"""Mean squared error of pixels, of which each network has its own."""


class Editor(nn.Module):
    """Adds to each weight of a network what an encoder tells of it.

    Args:
        encoder: has `entries`, changes of each entry of each parameter, small at first:
            `(networks, *shape, 1)` by name, for each stack.

    Raises:
        MetaTrainError: if the encoder tells nothing of entries.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        if not hasattr(encoder, "entries"):
            raise MetaTrainError(
                f"{type(encoder).__name__} has no outputs for weights, so it cannot edit.\n"
                "  Use another encoder, such as ng_gnn."
            )
        self.encoder = encoder

    def forward(self, networks: Networks) -> Networks:
        """Return changed networks, in the same order."""
        encoder: Any = self.encoder
        changes: list[dict[str, Tensor]] = encoder.entries(networks)
        stacks = (
            replace(
                stack,
                parameters={n: t + change[n].squeeze(-1) for n, t in stack.parameters.items()},
            )
            for stack, change in zip(networks.stacks, changes, strict=True)
        )
        return replace(networks, stacks=tuple(stacks))


class Editing(Reading):
    """Change networks so that their images are edited.

    Args:
        zoo: of networks that are images, with their original `images` among the examples.
        edit: what is done to images `(n, channels, height, width)` from 0 to 1.
    """

    score = ERROR

    def __init__(self, zoo: Zoo, edit: Callable[[Tensor], Tensor]) -> None:
        self.zoo, self.edit = zoo, edit
        self.train = zoo.split("train")
        self.examples = len(self.train)
        self.size = zoo.examples["images"].shape[-1]

    def loss(self, module: nn.Module, index: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of a batch."""
        snapshots = self.train[index]
        edited = render(module(self.zoo.networks(snapshots)), self.size)
        return (edited - self.targets(snapshots)).square().mean()

    def evaluate(self, module: nn.Module, split: str) -> dict[str, float]:
        """Error on a split."""
        return {self.score.name: float(self.predict(module, split).mean())}

    @torch.no_grad()
    def predict(self, module: nn.Module, split: str) -> Tensor:
        """Error of each network of a split, `(snapshots,)`, on the CPU."""
        return self._errors(split, lambda networks: render(module(networks), self.size))

    @torch.no_grad()
    def errors(self, split: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Error of each network as it is, where its image is changed, `(snapshots,)`."""
        return self._errors(split, lambda networks: change(render(networks, self.size).clamp(0, 1)))

    def keep(self, module: nn.Module, folder: Path) -> None:
        """Write some edited images of the test split."""
        with torch.no_grad():
            edited = render(module(self.zoo.networks(self.shown())), self.size)
        save_file({"edited": edited.cpu().contiguous()}, folder / FILE)

    def shown(self) -> Tensor:
        """Numbers of the snapshots of the test split that are shown."""
        return self.zoo.split("test")[:SHOWN]

    def originals(self, snapshots: Tensor) -> Tensor:
        """Images that the networks were fitted to, from 0 to 1."""
        return self.zoo.examples["images"][snapshots].float() / BRIGHTEST

    def targets(self, snapshots: Tensor) -> Tensor:
        """Those images, edited."""
        return self.edit(self.originals(snapshots))

    def decoded(self, snapshots: Tensor) -> Tensor:
        """Images of the networks as they are."""
        return render(self.zoo.networks(snapshots), self.size)

    def _errors(self, split: str, show: Callable[[Networks], Tensor]) -> Tensor:
        parts = self.zoo.split(split).split(AT_ONCE)  # type: ignore[no-untyped-call]
        found = [
            (show(self.zoo.networks(part)) - self.targets(part)).square().mean((1, 2, 3))
            for part in parts
        ]
        return torch.cat(found).cpu()


def edited_images(folder: Path) -> Tensor:
    """Images that :meth:`Editing.keep` has written, `(n, channels, height, width)`."""
    return load_file(folder / FILE)["edited"]
