"""Running the networks of a stack on the same inputs, all at once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.func import functional_call, vmap

from ngopt.encoders.networks import Stack
from ngopt.errors import EncoderError, TraceError
from ngopt.graph.activations import Activation, ActivationMode, node_activations
from ngopt.graph.nested_tensors import nested_tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import nodes_of
from ngopt.graph.operations import registry

Answer = TypeVar("Answer")
Places = tuple[NeuralGraph, dict[int, Activation]]

_places_of: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Places]] = WeakKeyDictionary()


class Responses(NamedTuple):
    """What the networks of a stack answer.

    Args:
        outputs: their outputs, `(networks, examples, *outputs)`.
        nodes: activations by the numbers of the sets of :func:`ngopt.graph.nodes.nodes_of`,
            `(networks, nodes, examples)`; not of sets whose activations are not known.
    """

    outputs: Tensor
    nodes: dict[int, Tensor]


def outputs_of(stack: Stack, inputs: Tensor) -> Tensor:
    """Run each network on the inputs, in evaluation mode.

    Args:
        stack: the networks; it must have a model.
        inputs: of one network, `(examples, *shape)`. Derivatives reach them and the parameters.

    Returns:
        `(networks, examples, *outputs)`; of several outputs, the first.

    Raises:
        EncoderError: if there is no model, or it cannot be run on such inputs or many at once.
    """
    model = _model(stack)
    outputs: Tensor = _run(stack, model, inputs, lambda call: _first(call()))
    return outputs


def responses_of(stack: Stack, inputs: Tensor) -> Responses:
    """Run each network as :func:`outputs_of` does, and keep the activations of its neurons.

    Each neuron's is its last one, after its activation function; where it has several places, as a
    channel of a convolution, it is their mean.

    Args:
        stack: the networks; it must have a model.
        inputs: of one network, `(examples, *shape)`.

    Raises:
        EncoderError: as :func:`outputs_of`; also if the graph of the networks is not that of their
            model, or the model does not compute the same steps each time.
    """
    model = _model(stack)
    graph, places = _places(stack, model, inputs)
    wanted = {place.call: place for place in places.values() if place.call >= 0}

    def watched(call: Callable[[], Any]) -> tuple[Tensor, list[Tensor]]:
        seen: dict[int, Tensor] = {}

        def keep(number: int, func: Callable[..., Any], out: Tensor) -> None:
            if number in wanted and registry.name_of(func) == wanted[number].name:
                seen[number] = out

        with ActivationMode(keep):
            outputs = _first(call())
        if len(seen) < len(wanted):
            raise RuntimeError("it does not call the same torch functions each time")
        seen[-1] = inputs
        return outputs, [p.by_neuron(graph, seen[p.call]) for p in places.values()]

    outputs, values = _run(stack, model, inputs, watched)
    nodes = {n: value.transpose(1, 2) for n, value in zip(places, values, strict=True)}
    return Responses(outputs, nodes | _lone(stack.graph, outputs))


def _lone(graph: NeuralGraph, outputs: Tensor) -> dict[int, Tensor]:
    """The activations of a single output, which are the outputs."""
    if outputs[0, 0].numel() != 1:
        return {}
    nodes = nodes_of(graph)
    ends = zip(graph.bundles, nodes.targets, strict=True)
    lone = {n: graph.layouts[b.parameter].depth for b, n in ends if not nodes.sets[n].spaces}
    flat = outputs.flatten(1).unsqueeze(1)
    return {n: flat for n, depth in lone.items() if depth == 1}


def _model(stack: Stack) -> nn.Module:
    if stack.model is None:
        raise EncoderError(
            "probes run the networks themselves, and this stack has no model to run.\n"
            "  Give one of their architecture: Stack(graph, parameters, model, buffers)."
        )
    parameters = {name for name, _ in stack.model.named_parameters()}
    states = {name for name, layout in stack.graph.layouts.items() if layout.buffer}
    missing = sorted((parameters | states) - {*stack.parameters, *(stack.buffers or {})})
    if missing:
        raise EncoderError(
            f"the networks do not say what {', '.join(map(repr, missing))} of their model are.\n"
            "  Stack all parameters and state buffers: Stack(graph, parameters, model, buffers)."
        )
    return stack.model


def _run(
    stack: Stack, model: nn.Module, inputs: Tensor, watch: Callable[[Callable[[], Any]], Answer]
) -> Answer:
    def one(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Answer:
        return watch(lambda: functional_call(model, ({**parameters}, {**buffers}), (inputs,)))

    try:
        with _evaluating(model):
            answer: Answer = vmap(one)(stack.parameters, stack.buffers or {})
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise EncoderError(_refusal(model, inputs, error)) from error
    return answer


def _refusal(model: nn.Module, inputs: Tensor, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"cannot run many networks {type(model).__name__} at once on probes of shape "
        f"{tuple(inputs.shape)}: {reason}\n  Use probes of the shape of one of its inputs, and a "
        "model that torch.func.vmap can run: it must not depend on values of tensors, nor use "
        "nn.LSTM and the like."
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout is off and norms use the networks' own running statistics."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _first(outputs: Any) -> Tensor:
    found: Tensor | None = next(iter(nested_tensors(outputs)), None)
    if found is None:
        raise TypeError("it returns no tensor")
    return found


def _places(stack: Stack, model: nn.Module, inputs: Tensor) -> Places:
    """Where the activations of a model are, found once."""
    known = _places_of.setdefault(model, {})
    shape = tuple(inputs.shape)
    if shape not in known:
        like = next(iter(model.parameters()), inputs)
        try:
            with _evaluating(model):
                known[shape] = node_activations(
                    model, inputs.detach().to(like), nodes_of(stack.graph)
                )
        except (RuntimeError, ValueError, TypeError, LookupError, TraceError) as error:
            raise EncoderError(_refusal(model, inputs, error)) from error
    graph, places = known[shape]
    ours, theirs = ({n: p.bundles for n, p in g.parameters.items()} for g in (graph, stack.graph))
    if ours != theirs:
        raise EncoderError(
            f"the graph of the networks is not that of their model, a {type(model).__name__}.\n"
            "  Trace the model: Stack(ngopt.trace(model, *inputs), parameters, model)."
        )
    return graph, places
