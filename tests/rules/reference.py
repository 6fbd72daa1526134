"""The default rule once more, tensor by tensor and as simply as can be, to compare with."""

import math

import torch

from ngopt.features.moments import update_moments
from ngopt.features.neurons import ends
from ngopt.graph.matrix import matrices
from ngopt.rules.buckets.packing import is_stateless


def ratio(above, below):
    return torch.tanh(torch.log(torch.sqrt(above / below)) / 2)


def rms(x):
    return x.square().mean().sqrt()


class Bundle:
    """What is known of one bundle."""

    def __init__(self, rule, graph, name, number, parameter, gradient, state):
        self.layout = graph.layout(name)
        self.bundle = self.layout.bundles[number]
        found = matrices(self.layout) if rule.base_update.orthogonal else []
        self.matrix = found[number] if found else None
        self.after, moments = update_moments(state, gradient, rule.base_update.window)
        views = (self.bundle.view(x) for x in (parameter, gradient, *moments))
        self.weight, self.gradient, self.fast, self.slow, self.square = views
        self.step = self.after["step"]
        self.moments = moments._make((self.fast, self.slow, self.square))
        root = self.square.sqrt()
        self.adam = self.fast / root
        self.base = rule.base_update.base(
            self.adam, self.slow / root, self.gradient / root, self.step
        )
        structure = rule.positions.structure(graph, self.layout, self.bundle)
        means = [x.square().mean() for x in (self.fast, self.slow, self.gradient)]
        times = [math.tanh(math.log(float(self.step) / h)) for h in (3.0, 30.0, 300.0, 3000.0)]
        numbers = [
            rms(self.adam),
            ratio(means[0], means[2]),
            ratio(means[1], means[0]),
            ratio(means[2], self.square.mean()),
        ]
        self.context = torch.stack(
            [*numbers, *(torch.tensor(x, dtype=root.dtype) for x in (*times, *structure))]
        )
        width = rule.width if rule.graph_context else 0
        blind = not rule.graph_context or is_stateless(self.bundle, width)
        self.ends = ((), ()) if blind else ends(self.bundle)
        self.blind = blind

    def statistics(self, over):
        """Of rows, over inputs and taps, or of columns, `(neurons, 4)`."""
        squares = [x.square() for x in (self.adam, self.gradient, self.weight)]
        parts = [ratio(x.mean(over), x.mean()) for x in squares]
        product = (self.gradient * self.fast).mean(over)
        sizes = [x.square().mean(over).sqrt() for x in (self.gradient, self.fast)]
        return torch.stack([*parts, product / sizes[0] / sizes[1]], -1).flatten(0, 1)

    def messages(self, states, source):
        """To both ends, each None where there are no neurons."""
        group, outputs, inputs, _ = self.bundle.shape
        width = len(source)
        out, into = (
            states[end].view(group, -1, width) if end else source.expand(group, n, -1)
            for end, n in zip(self.ends, (outputs, inputs), strict=True)
        )
        self.states = out, into
        carried = [x.mean(-1) for x in (self.weight, self.adam, self.fast)]
        units = [x / rms(x) for x in carried]
        to_out = torch.cat([x @ into for x in units], -1).flatten(0, 1) / inputs**0.5
        to_in = torch.cat([x.mT @ out for x in units], -1).flatten(0, 1) / outputs**0.5
        return (to_out if self.ends[0] else None, to_in if self.ends[1] else None)


def mean_of(said):
    """Mean per neuron of what bundles say, `(set of neurons, numbers)` each."""
    found = {}
    for neurons, numbers in said:
        found.setdefault(neurons, []).append(numbers)
    return {neurons: sum(all_) / len(all_) for neurons, all_ in found.items()}


def talk(rule, bundles):
    """States of all neurons after the rounds."""
    rows = [(b.ends[0], b.statistics((2, 3))) for b in bundles if b.ends[0]]
    columns = [(b.ends[1], b.statistics((1, 3))) for b in bundles if b.ends[1]]
    sides = mean_of(rows), mean_of(columns)
    states = {}
    for neurons in {**sides[0], **sides[1]}:
        known = next(side[neurons] for side in sides if neurons in side)
        features = torch.cat([side.get(neurons, torch.zeros_like(known)) for side in sides], -1)
        features = features if rule.neuron_statistics else torch.zeros_like(features)
        states[neurons] = torch.tanh(rule.start(features))
    for mix in rule.rounds:
        said = []
        for b in bundles:
            if b.blind:
                continue
            layers = (mix.to_out, mix.to_in)
            heard = b.messages(states, torch.tanh(rule.source(b.context)))
            said += [
                (end, layer(x))
                for end, layer, x in zip(b.ends, layers, heard, strict=True)
                if x is not None
            ]
        means = mean_of(said)
        states = {n: torch.tanh(mix.keep(s) + means[n]) for n, s in states.items()}
    for b in bundles:
        if not b.blind:
            b.messages(states, torch.tanh(rule.source(b.context)))  # which notes its states
    return states


def direction(rule, b):
    """Of one bundle, and the size of its step."""
    base_update, head = rule.base_update, rule.head
    base = b.base
    raw_size, decay, *slow = outputs_of(rule, b)
    if b.matrix is not None:
        raw = slow[0] if slow else torch.zeros_like(raw_size)
        signal = base_update.signal(b.fast.square().mean(), b.square.mean(), b.step)
        factor = base_update.slow_factor(raw, b.step, signal)
        mixed = base_update.base(b.fast, b.slow, b.gradient, b.step, factor)
        whole = base_update.orthogonalized(mixed.clone(), b.matrix)
        whole = base_update.gate(whole, b.moments)
        base = whole * (rms(b.base) / rms(whole))
    row, column = b.square.mean((2, 3)), b.square.mean((1, 3))
    factored = (row / row.mean(-1, keepdim=True))[:, :, None, None] * column[:, None, :, None]
    root = b.square.sqrt()
    features = [
        b.adam,
        b.slow / root,
        b.gradient / root,
        b.fast / factored.sqrt(),
        b.fast / rms(b.fast),
        b.weight / rms(b.weight),
        base / rms(b.base),
    ]
    hidden = torch.stack(features, -1) @ head.entry.weight.to(base) + head.context(b.context)
    if not b.blind:
        out, into = b.states
        hidden = hidden + head.out_neuron(out)[:, :, None, None]
        hidden = hidden + head.in_neuron(into)[:, None, :, None]
    raw = (torch.relu(hidden) @ head.output.weight.to(base)).squeeze(-1)
    raw = base_update.gate(raw, b.moments)
    pull = base_update.decay(decay) * base_update.gate(b.weight / rms(b.weight), b.moments)
    corrected = base + rms(b.base) * (base_update.trusted(b.step) * torch.tanh(raw) + pull)
    return corrected * (rms(b.base) / rms(corrected)), base_update.scale(raw_size)


def outputs_of(rule, b):
    """Raw size of the step of one bundle, raw decay and, if learned, weight of slow momentum."""
    first, activation, last = rule.scale
    hidden = first(b.context)
    if rule.graph_sizes and not b.blind:
        out, into = (x.mean((0, 1)) for x in b.states)
        hidden = hidden + rule.scale_out(out) + rule.scale_in(into)
    outputs = last(activation(hidden))
    return outputs + rule.scale_linear(b.context) if rule.linear_sizes else outputs


def step(rule, parameters, gradients, state, graph):
    """Updates and the evidence of each parameter, of a step that looks at the whole model."""
    bundles = {
        name: [
            Bundle(rule, graph, name, n, parameters[name], gradients[name], state[name])
            for n in range(len(graph.layout(name).bundles))
        ]
        for name in gradients
    }
    every = [b for own in bundles.values() for b in own]
    if rule.graph_context:
        talk(rule, every)
    updates, evidence = {}, {}
    base_update = rule.base_update
    for name, own in bundles.items():
        shares, arrays = [], []
        for b in own:
            found, size = direction(rule, b)
            fixed = base_update.step_scale(
                b.bundle, b.layout.kind, graph.shortest_path, b.weight.square().mean()
            )
            means = (x.square().mean() for x in (b.fast, b.slow))
            before = state[name]["evidence"]
            shares.append(base_update.evidence(before, *means, b.square.mean(), b.step))
            arrays.append(found * size * fixed * base_update.share(shares[-1], b.step))
        updates[name] = graph.layout(name).assemble(arrays, parameters[name])
        evidence[name] = torch.stack(shares).mean() if shares else state[name]["evidence"]
    return updates, evidence
