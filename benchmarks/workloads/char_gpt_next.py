"""Fine-tuning: the GPT that knows Shakespeare goes on to Shakespeare with each word reversed."""

import re
from functools import cache

import torch

from benchmarks.workloads import char_gpt
from benchmarks.workloads.char_gpt import CharGPT
from benchmarks.workloads.texts import Characters
from benchmarks.workloads.trained import trained
from benchmarks.workloads.workload import Recipe, Workload, linear
from meta_train.data.folder import data_folder
from meta_train.data.text import tiny_shakespeare

STEPS = 500


def words_reversed(text: str) -> str:
    """The text with the letters of each word in reverse; all else stays.

    >>> words_reversed("But, soft! what light")
    'tuB, tfos! tahw thgil'
    """
    return re.sub("[A-Za-z]+", lambda word: word[0][::-1], text)


@cache
def reversed_shakespeare() -> Characters:
    """It has the same characters, so that the model's vocabulary stays."""
    return Characters.of(words_reversed(tiny_shakespeare(data_folder())))


def build(seed: int) -> CharGPT:
    """Go on from the weights that the recipe of `char_gpt` has trained, which is done once.

    Args:
        seed: of batches.
    """
    recipe = Recipe(
        torch.optim.AdamW,
        lr=3e-4,
        options={"betas": (0.9, 0.99)},
        decayed=0.1,
        schedule=linear(STEPS),
    )
    return CharGPT(seed, trained(char_gpt.WORKLOAD), recipe, reversed_shakespeare())


WORKLOAD = Workload(
    name="char_gpt_next",
    title="character GPT, words reversed",
    build=build,
    steps=STEPS,
    every=25,
    metric="validation loss",
    source="as `char_gpt`, fine-tuned as is usual: a third of its learning rate, down to 0",
    task="fine-tuning",
)
