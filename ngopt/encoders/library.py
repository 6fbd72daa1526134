"""Encoders in files."""

from os import PathLike
from pathlib import Path

from ngopt.encoders.encoder import Encoder
from ngopt.errors import EncoderError
from ngopt.nn.files import Files


def save_encoder(encoder: Encoder, path: str | PathLike[str]) -> None:
    """Write an encoder to a `.safetensors` file, for :func:`load_encoder`.

    A file that is there already is replaced when the new one is whole.

    Args:
        encoder: the encoder; its config must be plain data.
        path: the file; must end in `.safetensors`.

    Raises:
        EncoderError: if the path has another ending.
    """
    _FILES.write(encoder, path)


def load_encoder(path: str | PathLike[str]) -> Encoder:
    """Load an encoder from a file that :func:`save_encoder` wrote.

    Raises:
        EncoderError: if the file is missing, damaged, or of another architecture than its weights.
    """
    if not Path(path).is_file():
        raise EncoderError(f"there is no file `{path}`.\n  Save an encoder with save_encoder.")
    return _FILES.read(Path(path))


def encoder_classes() -> dict[str, type[Encoder]]:
    """Every class of encoders that has been imported and can be built, by name."""
    return _FILES.classes()


_FILES = Files("encoder", "ngopt-encoder-1", Encoder, EncoderError, "ngopt.encoders.save_encoder")  # type: ignore[type-abstract]
