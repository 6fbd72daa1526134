"""The optimizer's own part of a `state_dict`: graph, identity of the rule, skipped steps."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ngopt.errors import OF_DAMAGED_DATA, GraphError, NgoptError, OptionError, RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.plain_data import from_plain, to_plain
from ngopt.optim.context_refresh import ContextRefresh
from ngopt.optim.gradient_clipper import GradientClipper
from ngopt.optim.joined_graph import check_fit, rename_parameters
from ngopt.optim.update import init_state
from ngopt.rules.library import current_config, fingerprint
from ngopt.rules.rule import Rule

KEY = "ngopt"
VERSION = 1


@dataclass(frozen=True)
class Extra:
    """State of the optimizer as a whole.

    Args:
        names: name of each parameter, in the order of the groups.
        graph: the traced graph; it may describe none of the parameters.
        skipped: number of steps skipped so far.
        context_refresh: steps of each parameter since the graph context was recomputed.
        clipper: usual size of the gradient of each parameter.
    """

    names: list[str]
    graph: NeuralGraph
    skipped: int
    context_refresh: ContextRefresh = field(default_factory=ContextRefresh)
    clipper: GradientClipper = field(default_factory=GradientClipper)

    def as_plain(self, rule: Rule) -> dict[str, Any]:
        """Return plain data, which `torch.load(weights_only=True)` accepts."""
        return {
            "version": VERSION,
            "names": list(self.names),
            "graph": to_plain(self.graph),
            "skipped_steps": self.skipped,
            # The keys are part of the file format.
            "refreshing": asdict(self.context_refresh),
            "spikes": self.clipper.as_plain(),
            "rule": identity(rule),
        }


def identity(rule: Rule) -> dict[str, Any]:
    """Class, arguments and a hash of the weights of a rule, as plain data."""
    weights = fingerprint(rule.state_dict())
    return {"class": type(rule).__name__, "config": rule.config, "weights": weights}


def read(data: Mapping[str, Any], tensors: Mapping[str, Tensor], rule: Rule) -> Extra:
    """Inverse of :meth:`Extra.as_plain`, for the parameters and the rule of an optimizer.

    Args:
        data: what :meth:`Extra.as_plain` returned.
        tensors: the optimizer's parameters by their names there, in order.
        rule: the optimizer's rule.

    Returns:
        The data under the names in `tensors`.

    Raises:
        OptionError: if the data is of another version or damaged.
        RuleError: if it was written with a rule that keeps another state.
        GraphError: if it was written for parameters of other shapes.
    """
    try:
        return _parse(data, tensors, rule)
    except NgoptError:
        raise
    except OF_DAMAGED_DATA as error:
        raise OptionError(
            f"what the state of the optimizer holds under `{KEY}` is damaged "
            f"({type(error).__name__}: {error}).\n  Load a state that ngopt saved; without "
            f"`{KEY}`, it is loaded as that of the parameters alone."
        ) from error


def _parse(data: Mapping[str, Any], tensors: Mapping[str, Tensor], rule: Rule) -> Extra:
    if data.get("version") != VERSION:
        raise OptionError(
            f"cannot load an optimizer state of version {data.get('version')!r}; this ngopt reads "
            f"version {VERSION}.\n  Load it with the ngopt that wrote it."
        )
    _check_rule(data["rule"], rule)
    graph, saved = from_plain(data["graph"]), list(data["names"])
    if len(saved) != len(tensors):
        raise GraphError(
            f"cannot load the state of {len(saved)} parameters into an optimizer of "
            f"{len(tensors)}.\n  Build the optimizer for the model that the state was saved with."
        )
    new_names = dict(zip(saved, tensors, strict=True))

    def now(name: str) -> str:
        # Names that are neither the saved parameters' nor new are free to stay.
        return str(new_names.get(name, name))

    graph = rename_parameters(graph, now)
    check_fit(graph, {name: t for name, t in tensors.items() if graph.describes(name)})
    step, since = data["refreshing"]["step"], data["refreshing"]["since"]
    context_refresh = ContextRefresh(int(step), {now(name): int(n) for name, n in since.items()})
    clipper = GradientClipper.of_plain({now(name): pair for name, pair in data["spikes"].items()})
    skipped = int(data["skipped_steps"])
    if not 0 <= skipped < 2**63:
        raise ValueError(f"{skipped} steps cannot have been skipped")
    return Extra(list(tensors), graph, skipped, context_refresh, clipper)


def check_state(state: Mapping[str, Any], tensors: Mapping[str, Tensor], rule: Rule) -> None:
    """Raise unless the state of parameters is what the rule keeps for them.

    Args:
        state: by name of the parameter; some may be missing.
        tensors: the optimizer's parameters by name.
        rule: the optimizer's rule.

    Raises:
        RuleError: if the rule keeps another state.
        GraphError: if it is the state of a parameter of another shape.
    """
    for name, saved in state.items():
        tensor = tensors[name].detach().to("meta")
        own = init_state({name: tensor}, NeuralGraph.per_tensor({name: tensor.shape}), rule)[name]
        found = sorted(saved) if isinstance(saved, Mapping) else saved
        if found != sorted(own):
            raise RuleError(
                f"cannot use the state of `{name}`: it holds {found}, but the rule "
                f"{type(rule).__name__} keeps {sorted(own)}.\n"
                "  Load the state of a NeuralGraphOptimizer with the same rule=."
            )
        for key, value in own.items():
            if not isinstance(saved[key], Tensor):
                raise RuleError(
                    f"cannot use the state of `{name}`: `{key}` is a {type(saved[key]).__name__}, "
                    "no tensor.\n  Load the state of a NeuralGraphOptimizer."
                )
            # The shape of a cached graph context depends on the graph.
            fixed = not value.dim() or value.shape == tensor.shape
            if fixed and saved[key].shape != value.shape:
                raise GraphError(
                    f"the state of `{name}` (`{key}`) has the shape {tuple(saved[key].shape)}, but "
                    f"the parameter has {tuple(tensor.shape)}.\n"
                    "  Build the optimizer for the model that the state was saved with; after a "
                    "parameter has got another shape, begin anew: optimizer.state.pop(parameter)."
                )


def _check_rule(saved: Mapping[str, Any], rule: Rule) -> None:
    own = identity(rule)

    def architecture(which: Mapping[str, Any]) -> str:
        config = current_config(which["config"])
        return f"{which['class']}({json.dumps(config, sort_keys=True)})"

    if architecture(saved) != architecture(own):
        raise RuleError(
            f"cannot load the state of the rule {architecture(saved)} into an optimizer with "
            f"{architecture(own)}.\n  Build the optimizer with the same rule=."
        )
    if saved["weights"] != own["weights"]:
        warnings.warn(
            "the optimizer state was saved with other weights of the rule, so training will not "
            "continue exactly as it would have; build the optimizer with the same rule= for that",
            stacklevel=7,
        )


@contextmanager
def loading(
    optimizer: Optimizer,
    tensors: Mapping[str, Tensor],
    rule: Rule,
    restore: Callable[[Extra], None],
) -> Iterator[None]:
    """Context around `Optimizer.load_state_dict` that checks what is loaded and keeps its dtypes.

    Args:
        optimizer: the optimizer that loads.
        tensors: its parameters by name, in order.
        rule: its rule.
        restore: called with the optimizer's own part, if it was saved.
    """
    extras: list[Extra] = []

    def admit(_: Optimizer, loaded: dict[str, Any]) -> dict[str, Any]:
        if KEY in loaded:
            extras.append(read(loaded[KEY], tensors, rule))
        names = dict(enumerate(tensors))
        # Torch reports the others.
        known = {names[n]: value for n, value in loaded["state"].items() if n in names}
        check_state(known, tensors, rule)
        return {
            **loaded,
            "state": {key: _HiddenState(value) for key, value in loaded["state"].items()},
        }

    def finish(_: Optimizer) -> None:
        for key, value in optimizer.state.items():
            if isinstance(value, _HiddenState):
                optimizer.state[key] = value.copy_to(key)
        for extra in extras:
            restore(extra)

    # After the user's own hooks on the way in, before them on the way out.
    before = optimizer.register_load_state_dict_pre_hook(admit)
    after = optimizer.register_load_state_dict_post_hook(finish, prepend=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@dataclass(frozen=True)
class _HiddenState:
    """Hides the state of a parameter from torch, which would cast it to the parameter's dtype."""

    state: Any

    def copy_to(self, param: Any) -> Any:
        """Copy the state, which must not share memory with the `state_dict`, to its parameter."""
        if not isinstance(param, Tensor):
            return self.state
        return {
            name: item.detach().to(param.device, copy=True) for name, item in self.state.items()
        }
