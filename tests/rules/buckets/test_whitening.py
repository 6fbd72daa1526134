import pytest
import torch

from ngopt.backends.cpu.whiten import take_in
from ngopt.backends.dispatch import without_loops
from ngopt.graph.layout import Layout
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets import whitening as whitening_module
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.whitening import (
    COVARIANCES,
    LARGE,
    ROOTS,
    Whitening,
    is_whitened,
    place_of,
    whitening_sizes,
)
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import draw, relative_error, trajectory
from tests.rules.untrained import rough_polar_factor

S = spaces(x=4, h=6, n=5)
LAYOUTS = {
    "linear": layout(S, "w", ["h", "x"], "oi"),
    "convolution": layout(S, "w", ["h", "x", 3, 2], "oitt"),
    "groups": layout(S, "w", ["x", "h", "n"], "goi"),
    "gates": layout(S, "w", [3, "h", "n"], "toi"),
    "one output": layout(S, "w", [1, "x"], "oi"),
}
every_layout = pytest.mark.parametrize("described", LAYOUTS.values(), ids=LAYOUTS)
WHITENED = BaseUpdate(whitening_limit=8, equal_rows=False)


def whitening_of(described: Layout, base_update=WHITENED, refresh=True, step=1.0, finite=None):
    """Whitening of a parameter that begins, its state, and its bucket."""
    sizes = whitening_sizes(described, base_update)
    state = {"w": {key: torch.zeros(size, dtype=torch.float64) for key, size in sizes.items()}}
    plan = Plan(graph(S, [described]), ["w"], base_update, lambda *_: [], 0)
    (bucket,) = plan.buckets
    counts = torch.full((1, 1), step)
    return Whitening(base_update, lambda: counts, state, refresh, finite), state["w"], bucket


def arrays(bucket, seed):
    return draw_like(bucket.shape, seed)[None, None]


def draw_like(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@every_layout
def test_against_the_definition(described):
    whitening, _, bucket = whitening_of(described, step=1000.0)
    momentum, gradient = arrays(bucket, 0), arrays(bucket, 1)
    (found,) = whitening.directions(bucket, [0], momentum, gradient)[0]
    for group in range(bucket.shape[0]):
        g = gradient[0, 0, group] / gradient[0, 0, group].square().sum().sqrt()
        expected = momentum[0, 0, group] / momentum[0, 0, group].square().sum().sqrt()
        for side, (own, other) in enumerate((("oit", "pit"), ("oit", "ojt"), ("oit", "ois"))):
            if g.shape[side] == 1:
                continue
            pair = own[side] + other[side]
            covariance = torch.einsum(f"{own},{other}->{pair}", g, g)
            values, vectors = torch.linalg.eigh(covariance)
            lines = g.numel() / g.shape[side]
            damping = max(1e-5, 1.5e-3 * (g.shape[side] / lines / 39) ** 2)
            root = vectors @ torch.diag((values / values[-1] + damping) ** -0.5) @ vectors.T
            expected = torch.einsum(f"{pair},{other}->{own}", root, expected)
        torch.testing.assert_close(found[group], expected, rtol=1e-6, atol=1e-6)


def test_gradients_of_one_covariance_are_whitened():
    base_update = BaseUpdate(whitening_limit=8, whitening_decay=0.999, equal_rows=False)
    _, state, bucket = whitening_of(LAYOUTS["linear"], base_update)
    scales = draw_like((6, 1), 0).exp() * draw_like((1, 4), 1).exp()

    def whitened(seed, refresh):
        given = (scales * draw_like((6, 4), seed)).view(1, 1, *bucket.shape)
        whitening = Whitening(
            base_update, lambda: torch.full((1, 1), 1000.0), {"w": state}, refresh
        )
        return whitening.directions(bucket, [0], given, given).view(6, 4)

    for seed in range(2, 2000):
        whitened(seed, refresh=False)
    whitened(2000, refresh=True)
    squares = torch.stack([whitened(seed, refresh=False) for seed in range(3000, 3400)]).square()
    found = squares.mean(0)
    assert scales.square().max() / scales.square().min() > 100
    assert found.max() / found.min() < 3


@every_layout
@pytest.mark.parametrize("equal", [False, True])
def test_whitened_momenta_are_orthogonalized(described, equal):
    base_update = BaseUpdate(
        whitening_limit=8, equal_rows=equal, whitened_orthogonal=3, orthogonal_damping=0.5
    )
    whitening, _, bucket = whitening_of(described)
    own = whitening.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 1))[0, 0]
    expected = rough_polar_factor(own.flatten(2), 3, 0.5)
    if equal:
        expected = expected / expected.norm(dim=2, keepdim=True)
    whitening, _, _ = whitening_of(described, base_update)
    found = whitening.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 1))[0, 0].flatten(2)
    torch.testing.assert_close(found / found.norm(), expected / expected.norm(), rtol=0, atol=1e-6)


@every_layout
def test_roots_stay_between_refreshes(described):
    first, state, bucket = whitening_of(described)
    first.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 1))
    covariances, roots = state[COVARIANCES].clone(), state[ROOTS].clone()
    later = Whitening(WHITENED, lambda: torch.full((1, 1), 2.0), {"w": state}, False)
    later.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 2))
    assert torch.equal(state[ROOTS], roots)
    assert not torch.equal(state[COVARIANCES], covariances)


def test_large_sides_on_the_meta_device():
    rule = MatrixGNN(base_update={"whitening_limit": LARGE})
    parameter = torch.nn.Parameter(torch.empty(LARGE, LARGE, device="meta"))
    optimizer = NeuralGraphOptimizer([parameter], rule=rule)
    for _ in range(2):
        parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    assert optimizer.state[parameter][ROOTS].is_meta


@every_layout
def test_nothing_changes_where_a_gradient_is_not_finite(described):
    first, state, bucket = whitening_of(described)
    first.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 1))
    before = {key: tensor.clone() for key, tensor in state.items()}
    finite = torch.tensor(False)
    later = Whitening(WHITENED, lambda: torch.full((1, 1), 2.0), {"w": state}, True, finite)
    later.directions(bucket, [0], arrays(bucket, 0), torch.zeros_like(arrays(bucket, 0)))
    for key, tensor in before.items():
        assert torch.equal(state[key], tensor)


def test_what_is_whitened():
    linear, limit = LAYOUTS["linear"], BaseUpdate(whitening_limit=5)
    assert is_whitened(linear, WHITENED)
    assert not is_whitened(linear, limit)
    assert not is_whitened(linear, BaseUpdate(whitening_limit=8, orthogonal=0))
    assert not is_whitened(layout(S, "b", ["h"], "o"), WHITENED)
    assert not is_whitened(layout(S, "depthwise", ["h", 3], "gt"), WHITENED)
    sides = 6**2 + 4**2
    assert whitening_sizes(linear, WHITENED) == {COVARIANCES: sides, ROOTS: sides}
    assert whitening_sizes(linear, limit) == {COVARIANCES: 0, ROOTS: 0}
    convolution = LAYOUTS["convolution"]
    assert whitening_sizes(convolution, WHITENED) == {COVARIANCES: sides + 36, ROOTS: sides + 36}
    assert place_of(ROOTS, convolution, 0, 3) == sides


@pytest.fixture
def large_sides(monkeypatch):
    """Sides from 4 on have roots of rank 3."""
    monkeypatch.setattr(whitening_module, "LARGE", 4)
    monkeypatch.setattr(whitening_module, "RANK", 3)


def test_how_much_is_kept_for_large_sides(large_sides):
    convolution = LAYOUTS["convolution"]
    assert whitening_sizes(convolution, WHITENED) == {
        COVARIANCES: 7 * (6 + 4 + 6),
        ROOTS: 19 + 13 + 19,
    }
    assert place_of(ROOTS, convolution, 0, 3) == 19 + 13
    assert place_of(COVARIANCES, convolution, 0, 3) == 7 * (6 + 4)


@every_layout
def test_large_sides_of_few_directions_are_whitened_as_others_are(described, monkeypatch):
    """Gradients differ along two directions of each side, which is what three can show."""

    def whitened(times):
        base_update = BaseUpdate(whitening_limit=8, whitening_decay=0.7, equal_rows=False)
        whitening, _, bucket = whitening_of(described, base_update, step=1000.0)
        gradient = torch.ones(bucket.shape, dtype=torch.float64)
        for side in (1, 2, 3):
            sizes = [-1 if side == dim else 1 for dim in range(4)]
            line = torch.ones(bucket.shape[side], dtype=torch.float64)
            line[: len(line) // 2] = 3.0
            gradient = gradient * line.view(sizes)
        momentum = arrays(bucket, 0)
        for _ in range(times):
            found = whitening.directions(bucket, [0], momentum, gradient[None, None])
        return found

    expected = whitened(60)
    monkeypatch.setattr(whitening_module, "LARGE", 4)
    monkeypatch.setattr(whitening_module, "RANK", 3)
    torch.testing.assert_close(whitened(60), expected, rtol=1e-3, atol=1e-3)


@every_layout
@pytest.mark.parametrize("finite", [None, torch.tensor(False)])
def test_large_sides_change_as_others_do(described, large_sides, finite):
    first, state, bucket = whitening_of(described, finite=finite)
    first.directions(bucket, [0], arrays(bucket, 0), arrays(bucket, 1))
    changed = [tensor.abs().sum() > 0 for tensor in state.values()]
    assert changed == [finite is None] * 2


@pytest.mark.parametrize("name", ["linear", "convolution", "gates"])
def test_large_sides_in_c(name, large_sides):
    described = graph(S, [LAYOUTS[name]])
    rule = MatrixGNN(base_update={"whitening_limit": 8}, context_every=2)
    parameters = draw(described, 0, torch.float32)
    gradients = [draw(described, seed, torch.float32) for seed in range(1, 5)]
    found, _ = trajectory(rule, described, parameters, gradients)
    with without_loops():
        expected, _ = trajectory(rule, described, parameters, gradients)
    assert relative_error(found[-1], expected[-1]) < 1e-4


@pytest.mark.parametrize("scale", [1e-15, 1e12])
def test_the_scale_of_the_loss_makes_no_difference(scale):
    described = graph(S, [LAYOUTS["linear"]])
    rule = MatrixGNN(base_update={"whitening_limit": 8})
    parameters = draw(described, 0, torch.float64)
    gradients = [draw(described, seed, torch.float64) for seed in range(1, 5)]
    larger = [{name: scale * g for name, g in own.items()} for own in gradients]
    expected, _ = trajectory(rule, described, parameters, gradients)
    found, _ = trajectory(rule, described, parameters, larger)
    assert relative_error(found[-1], expected[-1]) < 1e-6


def test_it_is_done_in_c(monkeypatch):
    calls = []

    def counted(*given):
        calls.append(1)
        return take_in(*given)

    monkeypatch.setattr("ngopt.rules.buckets.compiled_loops.take_in", counted)
    described = graph(S, [LAYOUTS["linear"]])
    rule = MatrixGNN(base_update={"whitening_limit": 8})
    parameters, gradients = (draw(described, seed, torch.float32) for seed in (0, 1))
    trajectory(rule, described, parameters, [gradients])
    assert calls


def test_covariances_of_few_lines_are_damped_more():
    base_update = BaseUpdate(damping=1e-5, scarce_damping=1e-3, whitening_decay=0.5)
    late = torch.tensor(1e6)
    assert base_update.damping_at(late, side=6, lines=2).item() == pytest.approx(1e-3)
    assert base_update.damping_at(late, side=6, lines=6).item() == pytest.approx(1e-3 / 9)
    assert base_update.damping_at(late, side=6, lines=600).item() == pytest.approx(1e-5)
    assert base_update.damping_at(late, side=10**6, lines=1).item() == 1.0
