"""Compiled loops do what operations of torch do, wherever they are used."""

import copy
import random
from dataclasses import replace
from itertools import cycle, pairwise

import pytest
import torch
from torch import nn

from ngopt.backends import backend, dispatch
from ngopt.backends.backend import _of_cpu
from ngopt.backends.cpu import c_functions
from ngopt.backends.dispatch import without_loops
from ngopt.backends.kernel import CompileError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.buckets import (
    compiled_loops,
    compiled_messages,
    compiled_step,
    loop_tables,
)
from ngopt.rules.buckets.memory_layout import STRAIGHT, TAPS_FIRST, TURNED, MatrixLayout, Placement
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import (
    SOME,
    difference_to_plain,
    draw,
    randomize,
    relative_error,
    zoo_graph,
)
from tests.zoo import ZOO

S = spaces(x=6, h=5)


def trajectory(rule, described, steps=3, dtype=torch.float32, made=0):
    device = next(rule.parameters()).device

    def drawn(seed):
        return {name: t.to(device) for name, t in draw(described, seed, dtype).items()}

    parameters = drawn(0)
    state = rule.init_state(parameters, described)
    for own in state.values():
        own["step"] += made
    with torch.no_grad():
        for number in range(steps):
            gradients = drawn(number + 1)
            refresh = number % rule.refresh_every == 0
            updates, state = rule(parameters, gradients, state, described, refresh=refresh)
            parameters = {name: p - 0.01 * updates[name] for name, p in parameters.items()}
    return parameters, state


def difference(rule, described, steps=3, made=0):
    return difference_to_plain(lambda: trajectory(rule, described, steps, made=made))


def used(rule):
    """The loops that a rule keeps."""
    plans = [one for _, many in rule.__dict__.get("_cache", {}).values() for one in many]
    return [found for plan in plans if isinstance(plan, Plan) for found in plan.loops.values()]


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", ZOO)
def test_as_operations_of_torch_on_the_zoo(name):
    rule = randomize(MatrixGNN(context_every=2, square_dtype="bfloat16"))
    assert difference(rule, zoo_graph(name)) < 1e-5
    assert used(rule)


def test_windows_of_slow_momenta_grow_as_in_torch():
    rule = randomize(MatrixGNN(base_update={"slow_power": 0.5, "late_slow": 4.0}))
    assert difference(rule, zoo_graph(SOME[0]), made=1000) < 1e-5
    assert used(rule)


OPTIONS = (
    {},
    {"graph_context": False},
    {"graph_sizes": True, "rounds": 1, "hidden": 3},
    {"momentum_dtype": "float32"},
    {"base_update": {"orthogonal": 0}},
    {"base_update": {"orthogonal": 3, "equal_rows": False}},
    {"base_update": {"whitening_limit": 1024}},
    {"base_update": {"whitening_limit": 8, "equal_rows": False}},
    {"base_update": {"whitening_limit": 1024, "whitened_orthogonal": 2}},
)


@pytest.mark.parametrize(("options", "name"), [*zip(2 * OPTIONS, cycle((*SOME, SOME[0])))], ids=str)
def test_with_options(name, options):
    assert difference(randomize(MatrixGNN(**options)), zoo_graph(name)) < 1e-5


@pytest.mark.parametrize("few", [1, 100])
@pytest.mark.parametrize("in_c", [True, False], ids=["in C", "in torch"])
def test_in_many_batches_and_with_matrices_of_all_sizes(few, in_c, monkeypatch):
    at_once = replace(_of_cpu(), at_once=few)
    monkeypatch.setattr(compiled_step, "backend_for", lambda *_: at_once)
    monkeypatch.setattr(compiled_loops, "MANY", 0)
    monkeypatch.setattr(compiled_messages, "CHUNK", few)
    if not in_c:
        monkeypatch.setattr(loop_tables.orthogonalize, "worthwhile", lambda *_: False)
        monkeypatch.setattr(loop_tables.whiten, "worthwhile", lambda *_: False)
        monkeypatch.setattr(c_functions, "worthwhile", lambda *_: False)
    for name in SOME:
        assert difference(randomize(MatrixGNN()), zoo_graph(name), 2) < 1e-5


LAYOUTS = {
    "linear": (["h", "x"], "oi", False),
    "transposed": (["x", "h"], "io", True),
    "convolution": (["h", "x", 3, 2], "oitt", False),
    "bias": (["h"], "o", True),
    "one input": (["h", 1], "oi", True),
    "one output": ([1, "x"], "oi", False),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_memory(name):
    factors, roles, turned = LAYOUTS[name]
    described = graph(S, [layout(S, "w", factors, roles)])
    rule = randomize(MatrixGNN())
    assert difference(rule, described) < 1e-5
    ((segment,),) = [found.segments for found in used(rule)]
    assert segment.matrix_layout.turned == turned


PLACES = {
    (6, 4, 1): {
        (4, 1, 7): (STRAIGHT, 4),
        (9, 1, 1): (STRAIGHT, 9),
        (1, 6, 9): (TURNED, 6),
        (1, 8, 1): (TURNED, 8),
        (8, 2, 1): None,
        (3, 1, 1): None,
    },
    (6, 4, 3): {
        (12, 3, 1): (STRAIGHT, 12),
        (15, 3, 1): (STRAIGHT, 15),
        (12, 1, 4): (TAPS_FIRST, 12),
        (1, 18, 6): None,
        (3, 18, 1): None,
    },
    (6, 1, 1): {(1, 5, 5): (TURNED, 6), (7, 5, 5): (STRAIGHT, 7)},
}


@pytest.mark.parametrize("shape", PLACES)
def test_places_of_rows_that_are_contiguous(shape):
    for strides, expected in PLACES[shape].items():
        found = Placement.of(shape, strides, (2,))
        if expected is None:
            assert found is None
            continue
        order, pitch = expected
        assert found == Placement(MatrixLayout(shape, order), pitch, (2,))
        memory = torch.arange(400)
        rows, columns = found.matrix_layout.sides
        matrix = memory.as_strided((rows, columns), (pitch, 1), 2)
        array = memory.as_strided(shape, strides, 2)
        assert torch.equal(found.matrix_layout.arrays(matrix), array)
        assert torch.equal(found.matrix_layout.flat(array), matrix)


class Mixture(nn.Module):
    """Of whose experts a few are called at each step."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(5, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.draw = random.Random(0)

    def forward(self, x):
        x = torch.tanh(self.into(x))
        return sum(self.experts[n](x) for n in self.draw.sample(range(6), 3))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.head = kind(4, 16, 2, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.cells(x)[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, x):
        return self.layers(self.words(x)) @ self.words.weight.T


def mlp(*widths, norm=nn.Identity):
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=norm is nn.Identity), norm(after), nn.Tanh()]
    return nn.Sequential(*layers[:-2])


def transformer():
    # The bias of keys has no gradient but rounding errors.
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, bias=False)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Fused(nn.Module):
    """Attention whose queries, keys and values are columns of one matrix, as in GPT-2."""

    def __init__(self):
        super().__init__()
        self.into = nn.Parameter(torch.randn(16, 48) / 4)
        self.out = nn.Linear(16, 16, bias=False)

    def forward(self, x):
        query, key, value = (x @ self.into).chunk(3, -1)
        return x + self.out(nn.functional.scaled_dot_product_attention(query, key, value))


def convnet(norm, **options):
    layers = []
    for before in (4, 8, 8):
        # A bias in front of a norm has gradients of rounding errors alone.
        layers += [nn.Conv2d(before, 8, 3, bias=False, **options), norm(8), nn.PReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3))


def channels_last():
    return convnet(nn.BatchNorm2d).to(memory_format=torch.channels_last)


X, ROW, IMAGE = torch.randn(5, 2), torch.randn(5, 3, 4), torch.randn(3, 4, 8, 8)
NETS = {
    "mlp": (lambda: mlp(2, 32, 32, 1), X),
    "mlp, layer norm": (lambda: mlp(2, 24, 24, 24, 1, norm=nn.LayerNorm), X),
    "rnn": (lambda: Recurrent(nn.RNN), ROW),
    "lstm": (lambda: Recurrent(nn.LSTM), ROW),
    "transformer": (transformer, torch.randn(2, 3, 16)),
    "fused projections": (Fused, torch.randn(2, 3, 16)),
    "tied layers": (Tied, torch.randint(20, (5, 3))),
    "convnet": (lambda: convnet(nn.BatchNorm2d), IMAGE),
    "convnet, groups": (lambda: convnet(lambda n: nn.GroupNorm(2, n), groups=2), IMAGE),
    "convnet, channels last": (channels_last, IMAGE),
    "mixture of experts": (Mixture, torch.randn(8, 5)),
    "a number": (lambda: nn.Linear(1, 1, bias=False), torch.randn(3, 1)),
}


def backward(model, x):
    x = x.to(next(model.parameters()).dtype) if x.is_floating_point() else x
    # The mean square of what comes out of a norm would have no gradient.
    model(x).float().square().sin().mean().backward()


def random_gradients(model, x):
    """Gradients that do not depend on the parameters, so that no rounding adds up."""
    model(x.to(next(model.parameters()).dtype))
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape).to(parameter)


def trained(name, steps=10, dtype=torch.float32, lr=1e-4, backward=backward, **options):
    torch.manual_seed(0)
    build, x = NETS[name]
    model = build().to(dtype)
    rule = randomize(MatrixGNN(context_every=4, momentum_dtype="float32"))
    optimizer = NeuralGraphOptimizer(model, lr, rule=rule, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, x)
        optimizer.step()
    named = {name: p.detach() for name, p in model.named_parameters()}
    return named, {n: optimizer.state[p] for n, p in model.named_parameters()}, optimizer


@pytest.mark.parametrize("name", NETS)
def test_the_optimizer_steps_in_place(name):
    found, state, optimizer = trained(name, weight_decay=0.1)
    with without_loops():
        expected, other, _ = trained(name, weight_decay=0.1)
    assert relative_error(found, expected) < 1e-3
    for parameter, tensors in other.items():
        assert relative_error(state[parameter], tensors) < 0.02
    assert used(optimizer.rule)


@pytest.mark.parametrize("name", ["convnet, channels last", "fused projections"])
def test_parts_of_tensors_are_not_copied(name):
    _, _, optimizer = trained(name, 1)
    (found,) = used(optimizer.rule)
    assert found.copied == 0


def test_half_precision_is_rounded_once():
    def run():
        named, state, _ = trained("convnet", 6, torch.bfloat16, 1e-2, random_gradients)
        return {name: tensor.float() for name, tensor in named.items()}, state

    assert difference_to_plain(run) < 2**-6


def test_double_precision_and_derivatives_are_left_to_torch():
    described, rule = zoo_graph("resnet"), MatrixGNN()
    trajectory(rule, described, 1, torch.float64)
    parameters = draw(described, 0, torch.float32)
    rule(parameters, parameters, rule.init_state(parameters, described), described)
    assert not used(rule)


@pytest.mark.parametrize("context_every", [1, 3])
def test_watching_tells_the_same_and_changes_nothing(context_every):
    described, told = zoo_graph("conv_flatten"), []
    rules = [randomize(MatrixGNN(context_every=context_every)) for _ in range(2)]
    expected, _ = trajectory(rules[0], described, 5)
    rules[1].on_diagnostics = lambda *arguments: told.append(arguments)
    found, _ = trajectory(rules[1], described, 5)
    assert relative_error(found, expected) == 0
    here, told[:] = list(told), []
    with without_loops():
        trajectory(rules[1], described, 5)
    assert len(here) == len(told) == 5 * sum(len(x.bundles) for x in described.layouts.values())
    order = [sorted(many, key=lambda one: one[0]) for many in (here, told)]
    for (name, _, *one), (same, _, *other) in zip(*order, strict=True):
        assert name == same
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_theta_may_change_between_looks():
    described, rule = zoo_graph("conv_flatten"), randomize(MatrixGNN(context_every=9))
    parameters, state = trajectory(rule, described, 2)
    gradients = draw(described, 9, torch.float32)
    before, _ = rule(parameters, gradients, state, described, refresh=False)
    with torch.no_grad():
        for weight in rule.parameters():
            weight.mul_(0.5)
        after, _ = rule(parameters, gradients, state, described, refresh=False)
        with without_loops():
            expected, _ = rule(parameters, gradients, state, described, refresh=False)
    assert relative_error(after, expected) < 1e-5
    assert relative_error(after, before) > 1e-3


def test_a_state_that_is_loaded_counts_at_once():
    torch.manual_seed(0)
    model = mlp(2, 8, 8, 1)
    optimizer = NeuralGraphOptimizer(model, rule=randomize(MatrixGNN(context_every=8)))

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            backward(model, X)
            optimizer.step()
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    train(10)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(3)
    train(9)
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    assert relative_error(train(3), expected) == 0


@pytest.mark.parametrize("shared", [True, False], ids=["one theta", "a theta each"])
@pytest.mark.parametrize("name", SOME)
def test_runs_side_by_side_are_as_each_alone(name, shared):
    described, runs = zoo_graph(name), 3
    rules = [randomize(MatrixGNN(context_every=2), 0 if shared else n) for n in range(runs)]
    together = copy.deepcopy(rules[0])
    if not shared:
        for module, *others in zip(*(r.modules() for r in [together, *rules]), strict=True):
            for key, _ in list(module.named_parameters(recurse=False)):
                stack = torch.stack([other.get_parameter(key) for other in others])
                module._parameters[key] = nn.Parameter(stack)
    singles = [trajectory_from(rule, described, n) for n, rule in enumerate(rules)]
    found = trajectory_from(together, described, *range(runs))
    for n, expected in enumerate(singles):
        assert relative_error({k: t[n] for k, t in found[0].items()}, expected[0]) < 1e-5
        for key, tensors in expected[1].items():
            for part, tensor in tensors.items():
                torch.testing.assert_close(found[1][key][part][n], tensor, rtol=2**-7, atol=1e-5)


def trajectory_from(rule, described, *seeds, steps=4):
    """Of one run, or of several with a dimension in front."""

    def drawn(step):
        every = [draw(described, 100 * seed + step, torch.float32) for seed in seeds]
        if len(seeds) == 1:
            return every[0]
        return {name: torch.stack([one[name] for one in every]) for name in every[0]}

    parameters = drawn(0)
    first = parameters if len(seeds) == 1 else {n: p[0] for n, p in parameters.items()}
    state = rule.init_state(first, described)
    if len(seeds) > 1:
        state = {
            name: {key: torch.stack([tensor] * len(seeds)) for key, tensor in tensors.items()}
            for name, tensors in state.items()
        }
    with torch.no_grad():
        for number in range(steps):
            refresh = number % rule.refresh_every == 0
            updates, state = rule(parameters, drawn(number + 1), state, described, refresh=refresh)
            parameters = {name: p - 0.01 * updates[name] for name, p in parameters.items()}
    return parameters, state


def test_what_c_cannot_orthogonalize_torch_does(monkeypatch):
    monkeypatch.setattr(compiled_loops, "orthogonalize", lambda *_: False)
    assert difference(randomize(MatrixGNN()), zoo_graph("conv_flatten")) < 1e-5


@pytest.mark.parametrize("late", [False, True], ids=["none", "of some"])
def test_a_loop_that_cannot_be_compiled_is_no_error(late, monkeypatch):
    def refuse(*_):
        raise CompileError("none is installed")

    monkeypatch.setattr(dispatch, "_off", False)
    if late:
        failing = replace(backend.CPU, make=refuse)
        monkeypatch.setattr(
            compiled_step, "backend_for", lambda _: None if dispatch._off else failing
        )
    else:
        monkeypatch.setattr(backend, "Kernel", refuse)
        backend._of_cpu.cache_clear()
    described = zoo_graph("conv_flatten")
    with pytest.warns(UserWarning, match="none is installed"):
        here, _ = trajectory(MatrixGNN(), described, 2)
    backend._of_cpu.cache_clear()
    with without_loops():
        there, _ = trajectory(MatrixGNN(), described, 2)
    assert relative_error(here, there) == 0
