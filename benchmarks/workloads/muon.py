"""Muon for the hidden matrices of a model beside AdamW for the rest, as one optimizer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class Together(Optimizer):
    """Several optimizers that look like one to schedules and scripts.

    Args:
        optimizers: each for some of the parameters, or for flat views of them.
        flat: pairs of a parameter and the flat view of it that an optimizer has instead.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        flat: Sequence[tuple[nn.Parameter, nn.Parameter]] = (),
    ) -> None:
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        super().__init__([p for group in groups for p in group["params"]], {})
        self.param_groups = groups  # the very dicts, so that schedules reach the optimizers
        self.optimizers, self.flat = list(optimizers), list(flat)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, also of parameters that have flat views."""
        super().zero_grad(set_to_none)
        for parameter, _ in self.flat:
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do a step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter, view in self.flat:
            view.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


def muon_beside_adamw(
    model: nn.Module, lr: float, decay: float, betas: tuple[float, float]
) -> Optimizer:
    """Make Muon for hidden matrices and kernels, AdamW for the rest; both have AdamW's settings.

    Args:
        model: frozen parameters are left out.
        lr: AdamW's learning rate, to whose size of updates Muon's are scaled.
        decay: weight decay of parameters with two or more dimensions.
        betas: AdamW's.
    """
    hidden = hidden_matrices(model)
    known = set(hidden)
    rest = [p for p in model.parameters() if p.requires_grad and p not in known]
    optimizers: list[Optimizer] = []
    flat: list[tuple[nn.Parameter, nn.Parameter]] = []
    if hidden:
        # torch's Muon takes matrices only. A view shares its memory with the kernel.
        flat = [(p, nn.Parameter(p.detach().flatten(1))) for p in hidden if p.dim() > 2]
        matrices = [p for p in hidden if p.dim() == 2] + [view for _, view in flat]
        optimizers.append(Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if groups:
        optimizers.append(AdamW(groups, lr=lr, betas=betas))
    return Together(optimizers, flat)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Matrices and kernels, without embeddings, the head, and what is a single row or column.

    The head is taken to be the last of them, except in a list of blocks of a model with
    embeddings: the head is then one of those.
    """
    embeddings = {
        parameter
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for parameter in module.parameters()
    }
    names = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() >= 2 and parameter not in embeddings
    }
    if names:
        last = list(names)[-1]
        if not (embeddings and _in_list(model, last)):
            del names[last]
    return [p for p in names.values() if p.requires_grad and _is_matrix(p)]


def _in_list(model: nn.Module, name: str) -> bool:
    parts = name.split(".")[:-1]
    above = (model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1))
    return any(isinstance(module, nn.ModuleList) for module in above)


def _is_matrix(parameter: nn.Parameter) -> bool:
    rows, columns = parameter.shape[0], parameter[0].numel()
    return min(rows, columns) > 1 and parameter.is_contiguous()
