"""Recurrent layers and cells: LSTM, GRU and plain ones. The gates of a neuron stay together."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Atom, Concat, Family, Term, size


@operation("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", kind="recurrent")
def cell(
    recorder: TraceRecorder, out: Any, input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor,
    b_ih: Tensor | None = None, b_hh: Tensor | None = None,
) -> None:  # fmt: skip
    """One step: `(gate hidden) in` and `(gate hidden) hidden` weights."""
    axes = recorder.axes(input)
    weights = [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
    hidden, _ = _layer(recorder, axes[-1], weights)
    for state in tensors(hx):
        _carry(recorder, state, [hidden])
    for part in tensors(out):
        recorder.put(part, [*axes[:-1], hidden])


def _carry(recorder: TraceRecorder, state: Tensor, hidden: Sequence[Term]) -> None:
    """The initial states of the layers run over the layers' neurons."""
    if not recorder.is_uniform(state):
        recorder.unify(recorder.axes(state)[-1], *hidden)


def _layer(recorder: TraceRecorder, into: Term, weights: Sequence[Tensor]) -> tuple[Term, Term]:
    """Neurons of one layer and direction, and what it puts out (other neurons if it projects).

    The weights are `w_ih, w_hh, b_ih, b_hh, w_hr`; biases and projection may be missing.
    """
    projection = next((w for w in weights[2:] if w.dim() == 2), None)
    if projection is None:
        hidden = output = recorder.fresh(weights[1].shape[1])
    else:
        output, hidden = recorder.axes(projection)
        recorder.use(projection, [hidden])
    for i, weight in enumerate(w for w in weights if w is not projection):
        axes = recorder.axes(weight)
        gates = recorder.free(size(axes[0]) // size(hidden))
        recorder.unify(axes[0], recorder.product(gates, hidden))
        if len(axes) == 2:
            summed = into if i == 0 else output
            recorder.unify(axes[1], summed)
            recorder.use(weight, [summed])
    return hidden, output


@operation("lstm", "gru", "rnn_tanh", "rnn_relu", kind="recurrent")
def recurrent(recorder: TraceRecorder, out: tuple[Tensor, ...], input: Tensor, *args: Any) -> None:
    """All layers and directions of a module, over a sequence (padded or packed)."""
    # Packed: batch sizes, states, weights, ...; padded: states, weights, ...
    packed = isinstance(args[0], Tensor) and isinstance(args[2], (list, tuple))
    hx, weights, _, layers, _, _, bidirectional, *_ = args[1:] if packed else args
    directions = 1 + bool(bidirectional)
    per_layer = len(weights) // (layers * directions)
    into, every = recorder.axes(input)[-1], list[tuple[Term, Term]]()
    for layer in range(layers):
        found = [
            _layer(recorder, into, weights[i * per_layer :][:per_layer])
            for i in range(layer * directions, (layer + 1) * directions)
        ]
        every += found
        into = recorder.concat([output for _, output in found])
    recorder.put(out[0], [*recorder.axes(input)[:-1], into])
    hidden, outputs = ([pair[i] for pair in every] for i in range(2))
    for before, after, neurons in zip(tensors(hx), out[1:], (outputs, hidden), strict=False):
        _carry(recorder, before, neurons)
        recorder.put(after, _state_axes(recorder, after, neurons))


def _state_axes(recorder: TraceRecorder, state: Tensor, hidden: Sequence[Term]) -> list[Term]:
    """`(layer batch hidden)`, where the neurons differ from layer to layer."""
    if len(hidden) == 1:
        return [*(recorder.free(n) for n in state.shape[:-1]), hidden[0]]
    layers = Atom(len(hidden), bound=Concat((ONE,) * len(hidden)))
    batch = [recorder.free(n) for n in state.shape[1:-1]]
    return [layers, *batch, Family(layers, tuple(hidden))]
