import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.func import vmap

from ngopt.features.moments import update_moments
from ngopt.features.scale import rms
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.monitor.diagnostics import record_diagnostics
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import FF, NGGNN, MatrixGNN
from tests.contract import Small, assert_same, backward, copy_of
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, warm
from tests.rules.table import every_rule

TELLING = {
    "matrix_gnn": lambda: MatrixGNN(width=4),
    "ng_gnn": lambda: NGGNN(width=6, layers=2),
    "ff": lambda: FF(hidden=8),
}
every_telling_rule = pytest.mark.parametrize("make", TELLING.values(), ids=TELLING)
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def look(rule, described, arguments, limit=64):
    """The update, and what was seen of it."""
    with torch.no_grad(), record_diagnostics(rule, limit) as seen:
        update, _ = rule(*arguments, described)
    return update, seen


def of_constant_correction(raw):
    """A rule whose raw correction of each entry is the same."""
    rule = MatrixGNN(hidden=2, graph_context=False)
    with torch.no_grad():
        for theta in rule.head.parameters():
            theta.zero_()
        rule.head.context.bias.fill_(1.0)
        rule.head.output.weight.fill_(raw / 2)
    return rule


@every_rule
def test_watching_changes_no_bit(make):
    rule = randomize(make())
    arguments = warm(rule, MLP, torch.float32)
    with torch.no_grad():
        expected, expected_state = rule(*arguments, MLP)
        with record_diagnostics(rule):
            update, state = rule(*arguments, MLP)
    assert_same(update, expected)
    for name in expected_state:
        assert_same(state[name], expected_state[name])


@every_telling_rule
@every_graph
def test_one_insight_per_bundle(make, described):
    rule = randomize(make())
    _, seen = look(rule, described, warm(rule, described))
    assert {n: [i.bundle for i in insights] for n, insights in seen.items()} == {
        name: list(layout.bundles) for name, layout in described.parameters.items()
    }
    for insight in (insight for insights in seen.values() for insight in insights):
        group, outputs, inputs, _ = insight.bundle.shape
        assert insight.correction.shape == (group * outputs, inputs)
        assert insight.correction_rms.shape == insight.scale.shape == ()
        assert 0 < insight.correction.max() < 0.9
        torch.testing.assert_close(
            insight.correction_rms, rms(insight.correction), rtol=1e-6, atol=0
        )


@every_telling_rule
@every_graph
def test_scale_is_what_the_size_of_the_update_has_been_multiplied_by(make, described):
    fresh, rule = make(), randomize(make())
    arguments = warm(rule, described)
    update, seen = look(rule, described, arguments)
    base, untouched = look(fresh, described, arguments)
    for name, layout in described.parameters.items():
        parts = zip(layout.views(update[name]), layout.views(base[name]), strict=True)
        for insight, plain, (ours, theirs) in zip(seen[name], untouched[name], parts, strict=True):
            torch.testing.assert_close(insight.scale, rms(ours) / rms(theirs), rtol=1e-5, atol=0)
            assert plain.scale == 1
            assert not plain.correction.any()


@pytest.mark.parametrize("raw", [0.5, -2.0])
def test_correction_is_in_units_of_the_base_direction(raw):
    rule = of_constant_correction(raw)
    arguments = warm(rule, MLP, steps=3)
    _, gradients, state = arguments
    _, seen = look(rule, MLP, arguments)
    for name, (insight,) in seen.items():
        _, moments = update_moments(state[name], gradients[name])
        recent = moments.fast.square()
        gate = recent / (recent + 3e-3**2 * moments.square)
        wanted = 0.9 / (1 + 4 / 1000) * torch.tanh(abs(raw) * gate)  # in the fourth step
        wanted = wanted.reshape(insight.correction.shape)
        torch.testing.assert_close(insight.correction, wanted, rtol=1e-5, atol=0)


def test_correction_is_a_mean_over_taps_and_neighbours():
    described = NeuralGraph.per_tensor({"w": (6, 4, 3, 3)})
    rule = randomize(MatrixGNN())
    arguments = warm(rule, described)
    _, whole = look(rule, described, arguments)
    _, seen = look(rule, described, arguments, limit=2)
    blocks_of_six = whole["w"][0].correction.square().unflatten(0, (2, 3)).unflatten(2, (2, 2))
    expected = blocks_of_six.mean((1, 3)).sqrt()
    torch.testing.assert_close(seen["w"][0].correction, expected, rtol=1e-6, atol=0)


def test_states_of_neurons_belong_to_sets_of_neurons():
    rule = randomize(MatrixGNN(width=5))
    _, seen = look(rule, MLP, warm(rule, MLP))
    out_states, in_states = seen["0.weight"][0].neurons
    neurons = seen.neurons()
    assert {spaces: tuple(states.shape) for spaces, states in neurons.items()} == {
        (space.name,): (space.size, 5) for space in MLP.spaces.values()
    }
    hidden = seen["2.weight"][0].bundle.in_neurons
    assert torch.equal(out_states, seen["2.weight"][0].neurons[1])
    assert torch.equal(out_states, neurons[hidden])
    assert not torch.equal(in_states, neurons[hidden][: len(in_states)])
    assert all(states.abs().max() <= 1 for states in neurons.values())


def test_without_graph_context_there_are_no_states():
    rule = MatrixGNN(graph_context=False)
    _, seen = look(rule, MLP, warm(rule, MLP))
    assert seen.keys() == MLP.parameters.keys()
    assert seen.neurons() == {}


def test_numbers_and_images_to_show():
    described = GRAPHS["attention_block"]
    rule = randomize(MatrixGNN())
    _, seen = look(rule, described, warm(rule, described))
    fused = next(name for name, layout in described.parameters.items() if not layout.whole)
    numbers, images = seen.numbers(), seen.images()
    assert numbers[f"scale/{fused}[1]"] == seen[fused][1].scale
    assert numbers["correction/norm.weight"] == seen["norm.weight"][0].correction_rms
    assert numbers.keys() >= {tag for tag in images if tag.startswith("correction/")}
    assert len(images) == len(described.bundles) + len(seen.neurons())
    assert all(image.dtype == torch.uint8 and image.dim() == 3 for image in images.values())


def test_the_last_step_counts():
    model = Small()
    optimizer = NeuralGraphOptimizer(model, rule=randomize(MatrixGNN()))
    with record_diagnostics(optimizer.rule) as seen:
        backward(model)
        optimizer.step()
        first = dict(seen)
        model.linear.bias.grad = None
        optimizer.step()
    assert first.keys() == copy_of(model).keys()
    assert seen["linear.bias"] == first["linear.bias"]
    assert len(seen["linear.weight"]) == 1
    assert seen["linear.weight"][0].scale != first["linear.weight"][0].scale


def test_a_step_that_is_skipped_records_nothing():
    model = nn.Linear(2, 2)
    optimizer = NeuralGraphOptimizer(model)
    model(torch.full((1, 2), math.nan)).sum().backward()
    with record_diagnostics(optimizer.rule) as seen:
        optimizer.step()
    assert optimizer.skipped_steps == 1
    assert not seen


def test_no_derivatives_are_kept():
    rule = randomize(MatrixGNN())
    arguments = warm(rule, MLP)
    with record_diagnostics(rule) as seen:
        update, _ = rule(*arguments, MLP)
    assert update["0.weight"].requires_grad
    for (insight,) in seen.values():
        kept = (insight.scale, insight.correction, insight.correction_rms, *insight.neurons)
        assert not any(tensor.requires_grad for tensor in kept)


@every_telling_rule
def test_stacked_runs_are_not_recorded(make):
    rule = randomize(make())
    state = rule.init_state(draw(MLP, 0, torch.float32), MLP)
    runs = [draw(MLP, seed, torch.float32) for seed in range(3)]
    stack = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}

    def updates(params):
        return rule(params, params, state, MLP)[0]

    with torch.no_grad():
        expected = vmap(updates)(stack)
        with record_diagnostics(rule) as seen:
            assert_same(vmap(updates)(stack), expected)
    assert not seen


def test_compiled_code_records_nothing(monkeypatch):
    rule = randomize(MatrixGNN())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    _, seen = look(rule, MLP, warm(rule, MLP))
    assert not seen


def test_the_watch_ends_with_its_context():
    rule = MatrixGNN()
    arguments = warm(rule, MLP)
    with record_diagnostics(rule) as outer:
        with pytest.raises(KeyError), record_diagnostics(rule) as inner:
            raise KeyError
        rule(*arguments, MLP)
    assert outer
    assert not inner
    assert rule.on_diagnostics is None


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))]
)
def test_copies_are_not_watched(make_copy):
    rule = MatrixGNN()
    arguments = warm(rule, MLP)
    with record_diagnostics(rule) as seen:
        twin = make_copy(rule)
        assert_same(twin(*arguments, MLP)[0], make_copy(twin)(*arguments, MLP)[0])
        assert not seen
        assert rule.reports_diagnostics
        assert not twin.reports_diagnostics
    assert_same(dict(twin.state_dict()), dict(rule.state_dict()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Profiler record function")
@pytest.mark.filterwarnings("ignore:.*Dynamo:UserWarning")
@pytest.mark.usefixtures("fresh_compiler")
def test_a_watch_makes_nothing_compile_again():
    model = nn.Linear(2, 1, bias=False)
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=MatrixGNN(1, 0, 1))
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    for number in range(3):
        model(torch.ones(1, 2)).square().sum().backward()
        if number % 2:
            step()
        else:
            with record_diagnostics(optimizer.rule) as seen:
                step()
            assert not seen
    assert counter.frame_count == 1
