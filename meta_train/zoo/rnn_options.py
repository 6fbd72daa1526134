"""Options of the command `zoo rnn`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from meta_train.errors import MetaTrainError
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.making import MakingOptions
from meta_train.zoo.rnn_problems import sizes


@dataclass(frozen=True)
class RnnOptions(MakingOptions):
    """Train LSTMs on a formal language or a turn of MNIST each, and keep them on the way.

    The languages are a^n b^(n+m1) c^(n+m2) d^(n+m3); the networks predict each next letter. Digits
    are turned by an angle of the network's own and read tile by tile. Killed at any moment, the
    same command goes on with what is missing, and the zoo is the same. All networks of a language
    are in one split, so that the test split has unseen ones.

    Columns are `accuracy` (the share of sequences that the network writes which are words; of
    digits, that after the last tile), `loss`, `step`, `snapshot` (the steps as labels), `task`,
    `weight_decay`, and of languages `m1`, `m2`, `m3`, of digits `angle` (degrees), `angle_cos`,
    `angle_sin`, `train_loss` and `gap` (loss on test images minus that on training images).

    Source: Herrmann, Faccio and Schmidhuber, "Learning useful representations of recurrent neural
    network weight matrices", ICML 2024. Here the longest word has room for its end.

    Args:
        folder: of the zoo.
        task: what they learn.
        scale: `full` replaces sizes and steps with those of the source: 1,000 networks, 20,000
            steps, hidden layers of 32, n up to 9, m from -3 to 2, all images, tiles of 4 pixels.
        networks: how many.
        steps: of AdamW.
        snapshots: steps after which a network is kept; 0 is before the first.
        hidden: number of neurons of each layer.
        layers: how many.
        batch: words or images in a step.
        lr: learning rate; 0.3 times that in the second half.
        longest: the largest n.
        surplus: the least and the largest m.
        images: number of training images of each network.
        tile: pixels along a side of a tile of a digit.
        samples: sequences or images that a network is judged by.
        validation: share of the languages, or of the angles, to validate on; `test` likewise.
        chunk: networks trained at once; 64 are best on a CPU, hundreds on a GPU.
    """

    folder: Path = Path("runs/zoo/rnn")
    task: Literal["languages", "digits"] = "languages"
    scale: Literal["small", "full"] = "small"
    networks: int = 512
    steps: int = 800
    snapshots: tuple[int, ...] = (0, 30, 100, 200, 400, 800)
    hidden: int = 16
    layers: int = 2
    batch: int = 32
    lr: float = 0.01
    longest: int = 4
    surplus: tuple[int, int] = (-2, 1)
    images: int = 2000
    tile: int = 7
    samples: int = 200
    validation: float = field(default=0.15, kw_only=True)
    test: float = field(default=0.15, kw_only=True)
    chunk: int = field(default=64, kw_only=True)

    def __post_init__(self) -> None:
        names = ("networks", "steps", "hidden", "layers", "batch", "images", "tile", "samples")
        least = min(getattr(self, name) for name in (*names, "chunk", "processes"))
        kept = self.snapshots
        ordered = list(kept) == sorted(set(kept)) and min(kept, default=-1) >= 0
        if least < 1 or self.lr <= 0 or not ordered or kept[-1] > self.steps:
            raise MetaTrainError(
                f"cannot make the zoo {self}.\n  Use numbers of at least 1, lr > 0, and snapshots "
                "in rising order, from 0 to the number of steps."
            )
        if self.surplus[0] > self.surplus[1] or 28 % self.tile:
            raise MetaTrainError(
                f"cannot make a zoo with surplus={self.surplus} and tile={self.tile}.\n"
                "  Give the smaller surplus first, and a tile that 28 pixels can be cut into."
            )

    @property
    def scaled(self) -> "RnnOptions":
        """These options, or those of the source if the full scale is asked for."""
        if self.scale == "small":
            return self
        return replace(
            self,
            scale="small",
            networks=1000,
            steps=20_000,
            snapshots=(1, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000),
            hidden=32,
            longest=9,
            surplus=(-3, 2),
            images=60_000,
            tile=4,
            samples=1000,
        )

    def plain(self) -> dict[str, Any]:
        """All that the zoo follows from."""
        return {name: value for name, value in super().plain().items() if name != "scale"}

    @property
    def architecture(self) -> Architecture:
        """What builds a network."""
        inputs, outputs = sizes(self.task, self.tile)
        config = {"inputs": inputs, "hidden": self.hidden, "layers": self.layers}
        return Architecture("lstm", {**config, "outputs": outputs})
