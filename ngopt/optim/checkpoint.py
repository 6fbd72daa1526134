"""What a `state_dict` holds beside torch's own: the graph, the rule's identity, skipped steps."""

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
from ngopt.graph.plain import from_plain, to_plain
from ngopt.optim.joining import check_fit, renamed
from ngopt.optim.refreshing import Refreshing
from ngopt.optim.spikes import Spikes
from ngopt.optim.update import init_state
from ngopt.rules.library import fingerprint
from ngopt.rules.rule import Rule

KEY = "ngopt"
VERSION = 1


@dataclass(frozen=True)
class Extra:
    """What belongs to the optimizer as a whole.

    Args:
        names: name of each parameter, in the order of the groups.
        graph: what is known of the parameters by tracing; may describe none of them.
        skipped: number of steps skipped so far.
        refreshing: when each parameter was last seen as a part of the whole model.
        spikes: how large the gradient of each parameter usually is.
    """

    names: list[str]
    graph: NeuralGraph
    skipped: int
    refreshing: Refreshing = field(default_factory=Refreshing)
    spikes: Spikes = field(default_factory=Spikes)

    def as_plain(self, rule: Rule) -> dict[str, Any]:
        """Return plain data, which `torch.load(weights_only=True)` accepts."""
        return {
            "version": VERSION,
            "names": list(self.names),
            "graph": to_plain(self.graph),
            "skipped_steps": self.skipped,
            "refreshing": asdict(self.refreshing),
            "spikes": self.spikes.as_plain(),
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
        RuleError: if it was written with a rule that remembers other things.
        GraphError: if it was written for parameters of other shapes.
    """
    try:
        return _understood(data, tensors, rule)
    except NgoptError:
        raise
    except OF_DAMAGED_DATA as error:
        raise OptionError(
            f"what the state of the optimizer holds under `{KEY}` is damaged "
            f"({type(error).__name__}: {error}).\n  Load a state that ngopt saved; without "
            f"`{KEY}`, it is loaded as that of the parameters alone."
        ) from error


def _understood(data: Mapping[str, Any], tensors: Mapping[str, Tensor], rule: Rule) -> Extra:
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

    graph = renamed(graph, now)
    check_fit(graph, {name: t for name, t in tensors.items() if graph.describes(name)})
    step, since = data["refreshing"]["step"], data["refreshing"]["since"]
    refreshing = Refreshing(int(step), {now(name): int(n) for name, n in since.items()})
    spikes = Spikes.of_plain({now(name): pair for name, pair in data["spikes"].items()})
    skipped = int(data["skipped_steps"])
    if not 0 <= skipped < 2**63:
        raise ValueError(f"{skipped} steps cannot have been skipped")
    return Extra(list(tensors), graph, skipped, refreshing, spikes)


def check_state(state: Mapping[str, Any], tensors: Mapping[str, Tensor], rule: Rule) -> None:
    """Raise unless the state of parameters is of the kind that the rule keeps for them.

    Args:
        state: by name of the parameter; there may be none of some.
        tensors: the optimizer's parameters by name.
        rule: the optimizer's rule.

    Raises:
        RuleError: if the rule remembers other things.
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
            # What a rule remembers of the graph has the shape that the graph gives it.
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
        return f"{which['class']}({json.dumps(which['config'], sort_keys=True)})"

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
    """Around `Optimizer.load_state_dict`: check all that is loaded, and keep its dtypes.

    Args:
        optimizer: the optimizer that loads.
        tensors: its parameters by name, in order.
        rule: its rule.
        restore: takes what was saved beside torch's own, if it was.
    """
    extras: list[Extra] = []

    def admit(_: Optimizer, loaded: dict[str, Any]) -> dict[str, Any]:
        if KEY in loaded:
            extras.append(read(loaded[KEY], tensors, rule))
        names = dict(enumerate(tensors))
        # Torch sees to the others.
        known = {names[n]: value for n, value in loaded["state"].items() if n in names}
        check_state(known, tensors, rule)
        return {**loaded, "state": {key: _Kept(value) for key, value in loaded["state"].items()}}

    def finish(_: Optimizer) -> None:
        for key, value in optimizer.state.items():
            if isinstance(value, _Kept):
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
class _Kept:
    """Hides the state of a parameter from torch, which would cast it to the parameter's dtype."""

    state: Any

    def copy_to(self, param: Any) -> Any:
        """Copy the state, which must not share memory with the `state_dict`, to its parameter."""
        if not isinstance(param, Tensor):
            return self.state
        return {
            name: item.detach().to(param.device, copy=True) for name, item in self.state.items()
        }
