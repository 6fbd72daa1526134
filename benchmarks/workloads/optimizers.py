"""The optimizers that train the workloads: our own, the recipe's, and opponents as they advise.

Only the recipes were tuned for their workloads, by those who wrote them.
"""

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from benchmarks.workloads.muon import muon_beside_adamw
from benchmarks.workloads.workload import Recipe, Schedule, cosine
from ngopt import NeuralGraphOptimizer

Built = tuple[Optimizer, Schedule | None]
"""An optimizer, and the factor of its learning rate at each step."""
Build = Callable[[nn.Module, Recipe, int], Built]
"""Makes an optimizer for a model, its recipe and a number of steps."""

ADAM_LIKE = (Adam, AdamW, NAdam, RAdam, RMSprop)
"""Optimizers whose learning rate is about the size of an update of each weight."""


def adam_lr(recipe: Recipe) -> float:
    """The recipe's learning rate if its optimizer is like Adam, else the one AdamW comes with."""
    return recipe.lr if issubclass(recipe.optimizer, ADAM_LIKE) else 1e-3


def its_own(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """What the recipe says."""
    groups = recipe.groups(model)
    return recipe.optimizer(groups, lr=recipe.lr, **recipe.options), recipe.schedule


def ngopt(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Ours as it comes, given the model."""
    return NeuralGraphOptimizer(model), None


def params(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Ours as it comes, given the parameters alone, so that it sees no graph."""
    return NeuralGraphOptimizer(model.parameters()), None


def swap(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Ours in one changed line of the recipe's script, whose learning rate and schedule stay."""
    return NeuralGraphOptimizer(recipe.groups(model), lr=recipe.lr, model=model), recipe.schedule


def adamw_default(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """AdamW as it comes: learning rate 1e-3, weight decay 0.01 of everything."""
    return AdamW(p for p in model.parameters() if p.requires_grad), None


def muon(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Muon beside AdamW, with the recipe's learning rate, weight decay and schedule.

    With its updates scaled to the size of AdamW's, Muon takes AdamW's learning rate and weight
    decay: J. Liu et al., "Muon is Scalable for LLM Training" (Moonlight), 2025, section 2.2.
    """
    betas = recipe.options.get("betas", (0.9, 0.999))
    return muon_beside_adamw(model, adam_lr(recipe), recipe.decayed, betas), recipe.schedule


def soap(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """SOAP as its README calls it, with the recipe's weight decay and schedule.

    README: lr=3e-3, betas=(.95, .95), precondition_frequency=10
    (https://github.com/nikhilvyas/SOAP). Three times AdamW's default: a recipe with a smaller
    learning rate, as for fine-tuning, gets three times that. The paper, too, decays the learning
    rate after a warm-up.
    """
    lr = min(3e-3, 3 * adam_lr(recipe))
    options = {"betas": (0.95, 0.95), "precondition_frequency": 10}
    return _published("SOAP")(recipe.groups(model), lr=lr, **options), recipe.schedule


def schedule_free(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Schedule-free AdamW with the recipe's weight decay and no schedule.

    README: a learning rate 1 to 10 times that with a schedule, and a warm-up
    (https://github.com/facebookresearch/schedule_free). Its default is 2.5 times AdamW's; so is
    this, with a warm-up of 5 % of the steps.
    """
    lr, warmup = 2.5 * adam_lr(recipe), max(1, steps // 20)
    groups = recipe.groups(model)
    return _published("ScheduleFreeAdamW")(groups, lr=lr, warmup_steps=warmup), None


def nadamw(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """AdamW with Nesterov's momentum, otherwise as in the recipe, with its schedule.

    It changes one thing about Adam and takes its settings: T. Dozat, "Incorporating Nesterov
    Momentum into Adam", 2016. The weight decay is decoupled as in AdamW.
    """
    optimizer = NAdam(
        recipe.groups(model),
        lr=adam_lr(recipe),
        betas=recipe.options.get("betas", (0.9, 0.999)),
        decoupled_weight_decay=True,
    )
    return optimizer, recipe.schedule


def prodigy(model: nn.Module, recipe: Recipe, steps: int) -> Built:
    """Prodigy, which finds its learning rate, with the recipe's weight decay.

    README: lr=1 and a cosine to 0 without restarts (https://github.com/konstmish/prodigy).
    """
    return _published("Prodigy")(recipe.groups(model), lr=1.0), cosine(steps)


OPTIMIZERS: dict[str, Build] = {
    "recipe": its_own,
    "ngopt": ngopt,
    "params": params,
    "swap": swap,
    "adamw_default": adamw_default,
    "muon": muon,
    "soap": soap,
    "schedule_free": schedule_free,
    "nadamw": nadamw,
    "prodigy": prodigy,
}


def _published(name: str) -> Any:
    """A class of the package `pytorch_optimizer`, which is not needed for the others.

    Raises:
        ImportError: if the package is missing.
    """
    try:
        return getattr(importlib.import_module("pytorch_optimizer"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} is in a package that is not installed.\n"
            '  Install it with `pip install "ngopt[workloads]"`, or leave it out of --optimizers.'
        ) from error
