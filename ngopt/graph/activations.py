"""Activations: which tensors of a forward pass hold the activations of which neurons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ngopt.graph.bundle import Bundle, Role
from ngopt.graph.incidence import neuron_dims
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, NodeSet
from ngopt.graph.operations import registry
from ngopt.graph.terms import Term
from ngopt.graph.trace import Tracing, undisturbed
from ngopt.graph.trace_modes import KernelMode


@dataclass(frozen=True)
class Activation:
    """A tensor that a forward pass makes.

    Args:
        call: number of the call of a torch function that returns it; -1 for the input.
        name: of this function.
        bundle: the examples are its groups, neurons its outputs, all else its taps.
    """

    call: int
    name: str
    bundle: Bundle

    def by_neuron(self, graph: NeuralGraph, tensor: Tensor) -> Tensor:
        """Mean over all places of a neuron.

        Args:
            graph: the graph.
            tensor: the activation.

        Returns:
            `(examples, neurons)`, neurons in the order of their set of nodes.
        """
        bundle = self.bundle
        examples = [d for d, role in enumerate(bundle.roles) if role == "group"]
        neurons = [d for d in neuron_dims(graph, bundle, "out") if d not in examples]
        places = [d for d, role in enumerate(bundle.roles) if role == "tap"]
        array = bundle.unfold(tensor).permute(*examples, *neurons, *places)
        return array.reshape(*bundle.shape[:2], -1).mean(2)


class ActivationMode(TorchFunctionMode):
    """Torch-function mode that shows all tensors that torch functions return, with their number.

    Args:
        show: called with the number of the call, the function and the tensor.
    """

    def __init__(self, show: Callable[[int, Callable[..., Any], Tensor], None]) -> None:
        super().__init__()
        self._show = show
        self._calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function and show what it returns."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self._show(self._calls, func, out)
        self._calls += 1
        return out


def node_activations(
    model: nn.Module, inputs: Tensor, nodes: Nodes
) -> tuple[NeuralGraph, dict[int, Activation]]:
    """Find the last activation of each set of nodes, by following one forward pass.

    It is that after the activation function, the norm and whatever else treats neurons one by one,
    and may be a mean over places already.

    Args:
        model: any module; it is left as it was.
        inputs: examples along the first axis.
        nodes: of its graph.

    Returns:
        The graph of the model, and the activations by the numbers of the sets. A set has none if it
        stands for no neurons, or if no tensor holds just its neurons for each example.
    """
    tracing = Tracing(model)
    tracing.begin((inputs,))
    recorder = tracing.recorder
    batch = recorder.axes(inputs)[0]
    made: list[tuple[int, str, list[Term]]] = [(-1, "input", recorder.axes(inputs))]

    def keep(call: int, func: Callable[..., Any], out: Tensor) -> None:
        if recorder.knows(out) and recorder.record(out).live:
            made.append((call, registry.name_of(func), recorder.axes(out)))

    # Without gradients, nothing but the kernels themselves tells of scripted functions.
    with (
        undisturbed(model),
        torch.no_grad(),
        KernelMode(),  # type: ignore[no-untyped-call]
        tracing.modes(),
        ActivationMode(keep),
    ):
        outputs = model(inputs)
    graph, bundles = tracing.finish_beside(outputs, [axes for *_, axes in made], batch)
    found: dict[int, Activation] = {}
    for (call, name, _), parts in zip(made, bundles, strict=True):
        for number, item in enumerate(nodes.sets):
            bundle = _of_set(graph, item, parts, len(inputs))
            if bundle is not None:
                found[number] = Activation(call, name, bundle)
    return graph, found


def _of_set(
    graph: NeuralGraph, item: NodeSet, bundles: Sequence[Bundle], examples: int
) -> Bundle | None:
    """The bundle of an activation with all but a set's neurons among the taps, if it has those."""
    if len(bundles) != 1 or not item.spaces or bundles[0].shape[0] != examples:
        return None
    (bundle,) = bundles
    names = [factor for factor in bundle.factors if isinstance(factor, str)]
    hidden = {name for name in names if not graph.spaces[name].pinned}
    if any(names.count(name) != 1 for name in item.spaces) or hidden - set(item.spaces):
        return None
    roles: tuple[Role, ...] = tuple(
        "tap" if role == "out" and factor not in item.spaces else role
        for factor, role in zip(bundle.factors, bundle.roles, strict=True)
    )
    return replace(bundle, roles=roles)
