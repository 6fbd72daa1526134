"""Options of zoos of LSTMs that take a moment."""

from meta_train.zoo.rnn_options import RnnOptions

TINY = {
    "networks": 16,
    "steps": 6,
    "snapshots": (0, 3, 6),
    "hidden": 3,
    "batch": 4,
    "longest": 2,
    "surplus": (0, 1),
    "images": 20,
    "tile": 14,
    "samples": 8,
    "validation": 0.25,
    "test": 0.25,
    "chunk": 6,
    "device": "cpu",
}


def tiny(folder, **more):
    """Options of 16 LSTMs on 8 languages, with three snapshots each."""
    return RnnOptions(folder=folder, **{**TINY, **more})
