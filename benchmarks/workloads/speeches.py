"""Who speaks in Shakespeare: pieces of speeches and their speakers."""

import textwrap
from collections import Counter

import torch

from meta_train.data.folder import data_folder
from meta_train.data.text import tiny_shakespeare

SPEAKERS, LONGEST, SHORTEST = 8, 130, 30


def speeches() -> dict[str, list[tuple[str, int]]]:
    """Pieces of the speeches of the eight who speak most often, each with its speaker's index.

    Pieces are cut between words and have 30 to 130 characters, so that 32 tokens hold most of them.
    One in five speeches is held out, with all of its pieces.

    Returns:
        The splits `train` and `held_out`, mixed once for all.
    """
    blocks = tiny_shakespeare(data_folder()).split("\n\n")
    parts = [block.strip().partition(":\n") for block in blocks]
    counts = Counter(speaker for speaker, colon, _ in parts if colon)
    index = {speaker: i for i, (speaker, _) in enumerate(counts.most_common(SPEAKERS))}
    spoken = [(words, index[speaker]) for speaker, _, words in parts if speaker in index]
    mixed = torch.randperm(len(spoken), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = len(spoken) // 5
    return {
        "train": _pieces([spoken[i] for i in mixed[held_out:]]),
        "held_out": _pieces([spoken[i] for i in mixed[:held_out]]),
    }


def _pieces(spoken: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [
        (piece, speaker)
        for words, speaker in spoken
        for piece in textwrap.wrap(words, LONGEST)
        if len(piece) >= SHORTEST
    ]
