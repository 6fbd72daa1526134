"""Placement of tensors: gathered on one device for a step, then put back where they were."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import torch
from torch import Tensor

from ngopt.backends.dispatch import PLAIN
from ngopt.rules.rule import Rule


def gather(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the whole tensor on a device; the tensor itself if it is that already.

    A tensor that is sharded over processes (FSDP2's `DTensor`) is gathered from all of them.
    """
    if type(tensor) in PLAIN and tensor.device == device:
        return tensor
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).to(device)


def gather_all(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return whole tensors on a device, as :func:`gather` does with each."""
    given = tensors.values()
    if PLAIN.issuperset(map(type, given)) and {tensor.device for tensor in given} == {device}:
        return dict(tensors)
    return {name: gather(tensor, device) for name, tensor in tensors.items()}


def place(value: Tensor, like: Tensor) -> Tensor:
    """Inverse of :func:`gather`: put a value where a parameter is.

    A value with the shape of a sharded parameter is sharded like it, without communication, since
    every process has computed the same value. Every process keeps any other value whole.
    """
    if type(like) in PLAIN and value.device == like.device:
        return value
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or value.shape != like.shape:
        return value.to(like.device)
    from torch.distributed.tensor import DTensor, distribute_tensor  # costs 1 s of import time

    assert isinstance(like, DTensor)
    return distribute_tensor(value, mesh, like.placements, src_data_rank=None)


def local_shard(tensor: Tensor) -> Tensor:
    """The local shard of a sharded tensor; it may be written to."""
    local: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return local


def as_shard_of(value: Tensor, like: Tensor) -> Tensor:
    """Inverse of :func:`local_shard`, for a value that is sharded as another tensor is."""
    from torch.distributed.tensor import DTensor  # costs 1 s of import time

    assert isinstance(like, DTensor)
    whole = like.shape, like.stride()
    return DTensor.from_local(
        value, like.device_mesh, like.placements, run_check=False, shape=whole[0], stride=whole[1]
    )


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that turns autocast off on a device, if the device supports it."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # meta tensors, of which torch.autocast would say that it knows nothing


def placed_rule(rule: Rule, device: torch.device) -> Rule:
    """Move a rule to a device; copy it to the meta device, where its weights would be lost."""
    weight = next(rule.parameters(), None)
    if weight is None or weight.device == device:
        return rule
    return (deepcopy(rule) if device.type == "meta" else rule).to(device)
