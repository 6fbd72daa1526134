"""Parameter groups: the arguments and options that are accepted, and the name of each tensor.

Names tie tensors to a graph. They are unique within one optimizer: parameters of the first model
keep their names, those of further models get a prefix, tensors of no model get a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import GradientError, GraphError, OptionError
from ngopt.graph.neural_graph import NeuralGraph

_MOMENTA = "the rule has momenta of its own, as it was meta-trained with"
_LOOPS = "steps are joined and compiled by themselves where that is possible"
REFUSED_OPTIONS = {
    "betas": _MOMENTA,
    "momentum": _MOMENTA,
    "nesterov": _MOMENTA,
    "amsgrad": _MOMENTA,
    "eps": "steps do not depend on the scale of gradients, and zero gradients move nothing",
    "fused": _LOOPS,
    "foreach": _LOOPS,
}
"""Options of other optimizers, each with the reason why it has no meaning here."""


def as_groups(params: Any, model: nn.Module | None) -> Any:
    """Bring the first argument of the optimizer to what torch's own optimizers accept.

    Args:
        params: a module, or an iterable of tensors, of (name, tensor), or of group dicts.
        model: the model that the parameters belong to, if given beside them.

    Returns:
        A list of group dicts, which may hold `model`; empty if `params` is.
    """
    if isinstance(params, nn.Module):
        return [{"model": params}]
    if isinstance(params, Tensor):
        return params  # torch says what is wrong with that
    params = params if isinstance(params, set) else list(params)
    grouped = params and not isinstance(params, set) and isinstance(params[0], dict)
    groups = params if grouped else [{"params": params}] if params else []
    return groups if model is None else [{"model": model, **group} for group in groups]


def as_group(group: Any) -> tuple[dict[str, Any], nn.Module | None]:
    """Copy a group dict, with a list of all its parameters, and without the model it may name.

    Raises:
        TypeError: if it is not a dict, or its parameters are not tensors in a fixed order.
        OptionError: if it names a model without parameters, or has neither model nor parameters.
    """
    if not isinstance(group, dict):
        raise TypeError(f"a parameter group must be a dict, but this is a {type(group).__name__}")
    group = dict(group)
    model = group.pop("model", None)
    if "params" not in group:
        group["params"] = [] if model is None else list(model.parameters())
        if not group["params"]:
            raise OptionError(
                f"there is nothing to optimize: {group if model is None else model} has no "
                "parameters.\n  Give a model with parameters, or a group with `params`."
            )
    params = group["params"]
    if isinstance(params, set):
        raise TypeError(
            "the order of a set changes between runs; give the parameters as a list instead"
        )
    group["params"] = [params] if isinstance(params, Tensor) else list(params)
    for _, tensor in named_tensors(group):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"the optimizer can only optimize Tensors, but got a {torch.typename(tensor)}"
            )
    return group, model


def named_tensors(group: Mapping[str, Any]) -> list[tuple[str | None, Tensor]]:
    """Tensors of a group, each with the name that the user gave it, if any."""
    return [entry if isinstance(entry, tuple) else (None, entry) for entry in group["params"]]


def check_group(group: Mapping[str, Any], tensors: Sequence[Tensor], held: set[Tensor]) -> None:
    """Raise unless the options make sense and the tensors are new, distinct and real.

    Args:
        group: the group's options; missing ones are not checked.
        tensors: its tensors.
        held: tensors of the groups before.

    Raises:
        OptionError: if an option is out of range or a tensor comes twice.
        GradientError: if a tensor is complex.
    """
    lr, decay = group.get("lr", 0.0), group.get("weight_decay", 0.0)
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise OptionError(
            f"Tensor lr must be 1-element, but has shape {tuple(lr.shape)}.\n"
            "  Give each parameter group its own lr: [{'params': ..., 'lr': ...}, ...]. Inputs of "
            "the model are not needed; to trace it before training, use "
            "graph=ngopt.trace(model, inputs)."
        )
    for name, value in {"lr": lr, "weight_decay": 0.0 if decay is None else decay}.items():
        if not value >= 0:
            raise OptionError(
                f"{name}={value} makes no sense: it must be a number that is at least 0.\n"
                "  To go up the gradient, use maximize=True."
            )
    if group.get("anneal") not in (None, True, False):
        raise OptionError(
            f"anneal={group['anneal']!r} makes no sense: it must be None, True or False.\n"
            "  Leave it out, and steps shrink by themselves until the learning rate is lowered."
        )
    seen = set(held)
    for tensor in tensors:
        if tensor in seen:
            where = "some parameters appear in more than one parameter group: " if held else ""
            raise OptionError(
                f"{where}a parameter of shape {tuple(tensor.shape)} is given twice, so each step "
                "would count double for it.\n"
                "  Give tied weights once, as model.parameters() does."
            )
        if tensor.is_complex():
            raise GradientError(
                f"a parameter of shape {tuple(tensor.shape)} is complex ({tensor.dtype}), which "
                "no rule can use.\n  Keep it as a real tensor, and use torch.view_as_complex(p) "
                "in the model."
            )
        seen.add(tensor)


def prefix(model: nn.Module, held: Mapping[str, Tensor]) -> str:
    """What the names of a model's parameters start with; the same for all groups of one model.

    A model in which a known name belongs to another tensor now gets a new prefix.

    Args:
        model: the model.
        held: the tensors of the groups before, by name.
    """
    names = {tensor: name for name, tensor in held.items()}
    current = dict(model.named_parameters())
    for name, tensor in current.items():
        if names.get(tensor, "").endswith(name):
            found = names[tensor].removesuffix(name)
            if all(
                names.get(t, found + n) == found + n and held.get(found + n, t) is t
                for n, t in current.items()
            ):
                return found
    return f"model{len(held)}:" if held else ""


def known_names(
    given: Sequence[tuple[str | None, Tensor]],
    model: nn.Module | None,
    prefix: str,
    graph: NeuralGraph | None,
) -> dict[Tensor, str]:
    """Names that tensors have already, in their model or in a graph.

    Args:
        given: the tensors, with the user's names.
        model: they belong to it, if given.
        prefix: of the names of the model's parameters.
        graph: nameless tensors of no model are named after it, if given.

    Raises:
        GraphError: if they do not fit the model or the graph.
    """
    tensors = [tensor for _, tensor in given]
    if model is not None:
        return names_in_model(model, prefix, tensors)
    if graph is not None and all(name is None for name, _ in given):
        return names_by_order(tensors, graph)
    return {}


def names_in_model(model: nn.Module, prefix: str, tensors: Iterable[Tensor]) -> dict[Tensor, str]:
    """Names of all parameters of a model, to which at least one of `tensors` belongs.

    Raises:
        GraphError: if none of the tensors belongs to the model.
    """
    known: dict[Tensor, str] = {p: prefix + name for name, p in model.named_parameters()}
    if known.keys().isdisjoint(tensors):
        raise GraphError(
            f"none of the parameters belongs to the {type(model).__name__} given as model=.\n"
            "  Give the model that they come from, or leave model= out."
        )
    return known


def names_by_order(tensors: Sequence[Tensor], graph: NeuralGraph) -> dict[Tensor, str]:
    """Name nameless tensors after a graph whose parameters agree with them in number and shape.

    Raises:
        GraphError: if they do not agree.
    """
    layouts = list(graph.parameters.values())
    if [layout.shape for layout in layouts] != [tuple(tensor.shape) for tensor in tensors]:
        raise GraphError(
            f"graph= describes {len(layouts)} parameters, and the {len(tensors)} tensors given "
            "without names are not the same by number, order and shape.\n"
            "  Give names: NeuralGraphOptimizer(model, graph=graph), or model.named_parameters()."
        )
    return dict(zip(tensors, graph.parameters, strict=True))


def name_all(
    given: Sequence[tuple[str | None, Tensor]], known: Mapping[Tensor, str], taken: Iterable[str]
) -> list[str]:
    """Name the tensors of a new group.

    Args:
        given: the tensors, with the user's names.
        known: names of all tensors of a model or a graph, which come first.
        taken: names of the tensors of the groups before.

    Returns:
        A name for each of `given`, unique in the optimizer. Groups of two models may bring the same
        names, which then get a number.
    """
    names: list[str] = []
    used = {*taken, *known.values()}
    first = len(used)
    for number, (name, tensor) in enumerate(given, first):
        if tensor not in known:
            name = f"tensor:{number}" if name is None else name
            name = f"{name}:{number}" if name in used else name
        names.append(known.get(tensor, str(name)))
        used.add(names[-1])
    return names


def check_gradient(name: str, grad: Tensor) -> None:
    """Raise `GradientError` if a rule cannot use the gradient."""
    if grad.layout is not torch.strided or grad.is_complex():
        kind = "complex" if grad.is_complex() else "sparse"
        cure = (
            "Keep the parameter as a real tensor, and use torch.view_as_complex(p) in the model."
            if kind == "complex"
            else "Build the layer with sparse=False, or give it to torch.optim.SparseAdam."
        )
        raise GradientError(
            f"the gradient of `{name}` (shape {tuple(grad.shape)}) is {kind}, but a rule needs "
            f"real, dense ones.\n  {cure}"
        )


def refuse_options(options: Mapping[str, Any]) -> None:
    """Raise `OptionError` for options of other optimizers, `TypeError` for unknown ones."""
    for name in options:
        if name not in REFUSED_OPTIONS:
            raise TypeError(f"NeuralGraphOptimizer has no argument {name!r}")
        raise OptionError(
            f"{name}= is an option of other optimizers, which has no meaning here: "
            f"{REFUSED_OPTIONS[name]}.\n  Leave it out. What can be set is lr, weight_decay, "
            "maximize, and the rule."
        )


def refuse_group_options(group: Mapping[str, Any]) -> None:
    """Raise `OptionError` if a group was given an option of another optimizer.

    Groups taken over from a torch optimizer hold all of its options, though nobody wrote them.
    Those are accepted and ignored, like anything else that a group holds.
    """
    taken_over = {"foreach", "differentiable"} <= group.keys()
    if not taken_over:
        refuse_options({name: value for name, value in group.items() if name in REFUSED_OPTIONS})
