import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ngopt.errors import RuleError
from ngopt.features.moments import Moments, init_moments, update_moments
from ngopt.features.scale import rms
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.base_update import BaseUpdate
from tests.hand_built import bundle, spaces

TRUSTS = st.floats(0, 0.99)
FIRST = torch.tensor(1.0)


def draw(seed, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e3])
def test_no_correction_leaves_adam_bit_for_bit(dtype, scale):
    adam = scale * draw(0, (1, 7, 5, 3), dtype)[0]
    assert torch.equal(BaseUpdate().direction(adam, torch.zeros_like(adam), FIRST), adam)


@given(TRUSTS, st.integers(0, 1000), st.integers(1, 40), st.floats(-2, 3))
def test_stays_within_trust_of_adam(trust, seed, size, log_scale):
    adam, correction = draw(seed, size)
    direction = BaseUpdate(trust=trust).direction(adam, 10**log_scale * correction, FIRST)
    torch.testing.assert_close(rms(direction), rms(adam), rtol=1e-6, atol=1e-12)
    cosine = (direction * adam).mean() / (rms(direction) * rms(adam))
    assert cosine >= math.sqrt(1 - trust**2) - 1e-6
    distance = 2 * math.sin(math.asin(trust) / 2)
    assert rms(direction - adam) <= (distance + 1e-5) * rms(adam)


@given(TRUSTS, st.integers(0, 1000))
def test_worst_correction_is_the_opposite_of_adam(trust, seed):
    adam = draw(seed, 30)[0].sign()
    direction = BaseUpdate(trust=trust).direction(adam, -1e3 * adam, FIRST)
    torch.testing.assert_close(direction, adam, rtol=1e-6, atol=0)


def test_correction_has_an_effect():
    adam, correction = draw(3, 30)
    assert rms(BaseUpdate().direction(adam, correction, FIRST) - adam) > 0.1 * rms(adam)
    assert torch.equal(BaseUpdate(trust=0.0).direction(adam, correction, FIRST), adam)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_adam_gives_zero_with_finite_derivatives(dtype):
    adam = torch.zeros(6, dtype=dtype, requires_grad=True)
    correction = torch.randn(6, dtype=dtype, requires_grad=True)
    direction = BaseUpdate().direction(adam, correction, FIRST)
    assert not direction.any()
    slopes = torch.autograd.grad(direction.sum(), (adam, correction))
    assert all(slope.isfinite().all() for slope in slopes)


def test_base_is_adam_at_first_and_then_takes_in_the_slow_momentum():
    adam, slow = draw(5, 30)
    gradient = draw(6, 30)[0]
    alone, mixed = BaseUpdate(slow=0.0, nesterov=0.0), BaseUpdate(slow=4.0, nesterov=0.0)
    assert torch.equal(alone.base(adam, slow, gradient, torch.tensor(7.0)), adam)
    base = [mixed.base(adam, slow, gradient, torch.tensor(n)) for n in (0.0, 1.0, 1e6)]
    assert torch.equal(base[0], adam)
    torch.testing.assert_close(base[1], adam + 4 * (1 - 0.99) * slow, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(base[2], adam + 4 * slow)


def test_the_slow_momentum_counts_more_in_the_long_run_and_by_a_learned_factor():
    fast, slow = draw(6, 30)
    gradient = torch.zeros_like(fast)
    base_update = BaseUpdate(slow=0.5, late_slow=3.0, late_slow_reference=1000.0, nesterov=0.0)

    def weight(step, raw=None, signal=0.0):
        step = torch.tensor(step)
        factor = None
        if raw is not None:
            factor = base_update.slow_factor(torch.tensor(raw), step, torch.tensor(signal))
        mixed = base_update.base(fast, slow, gradient, step, factor)
        return ((mixed - fast) / slow).mean().item()

    assert weight(1e7) == pytest.approx(0.5, rel=1e-3)
    assert weight(1000.0, 0.0) == pytest.approx(0.5 * 2.5, rel=1e-3)
    assert weight(1e7, 0.0) == pytest.approx(0.5 * 4, rel=1e-3)
    assert weight(1e7, 1e3) == pytest.approx(0.5 * 4 * math.exp(2.0), rel=1e-3)
    assert weight(1e7, -1e3) == pytest.approx(0.5 * 4 * math.exp(-2.0), rel=1e-3)
    assert weight(1e7, 0.0, signal=0.9) == pytest.approx(0.5 * 1.3, rel=1e-3)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.999, 1.0), (1.0, 0.4, 0.6)])
def test_signal_is_what_is_left_of_gradients_in_their_mean(noise, low, high):
    base_update, count = BaseUpdate(), 200
    signs = draw(0, 1000)[0].sign()
    fast, square = torch.zeros(1000), torch.zeros(1000)
    for step in range(count):
        gradient = signs + noise * draw(step + 1, 1000)[0]
        fast = 0.9 * fast + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.square()
    square = square / (1 - 0.999**count)
    found = base_update.signal(fast.square().mean(), square.mean(), torch.tensor(float(count)))
    assert low < found <= high


def test_base_has_less_and_less_of_the_gradient_itself():
    adam, slow = draw(5, 30)
    gradient = draw(6, 30)[0]
    base_update = BaseUpdate(slow=0.0, nesterov=0.5, nesterov_reference=100.0)
    base = [base_update.base(adam, slow, gradient, torch.tensor(n)) for n in (0.0, 100.0, 400.0)]
    for found, weight in zip(base, (0.5, 0.25, 0.1), strict=True):
        torch.testing.assert_close(found, adam + weight * gradient)


def test_gate_closes_where_there_never_was_a_gradient():
    sizes = torch.tensor([0.0, 1e-5, 1.0])
    gated = BaseUpdate().gate(torch.full((3,), 2.0), Moments(sizes, sizes, sizes.square()))
    assert gated[0] == 0
    torch.testing.assert_close(gated[1:], torch.tensor([2.0, 2.0]), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("scale", [1e-4, 1e15])
def test_gate_does_not_depend_on_the_scale_of_gradients(scale):
    fast, square = torch.tensor([1e-3, 1e-2, 1.0]), torch.ones(3)
    gated = BaseUpdate().gate(torch.ones(3), Moments(fast * scale, fast, square * scale**2))
    expected = fast.square() / (fast.square() + 3e-3**2)
    torch.testing.assert_close(gated, expected, rtol=1e-5, atol=0.0)


def test_gate_closes_where_there_was_no_gradient_for_long():
    state = init_moments(torch.zeros(2), "float32")
    gates = []
    for step in range(300):
        gradient = torch.tensor([1.0, 1.0 if step < 100 else 0.0])
        state, moments = update_moments(state, gradient)
        gates.append(BaseUpdate().gate(torch.ones(2), moments))
    kept, pruned = torch.stack(gates).unbind(1)
    torch.testing.assert_close(kept, torch.ones(300), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(pruned[:110], torch.ones(110), rtol=1e-3, atol=0.0)
    assert (pruned[110:].diff() <= 0).all()
    assert pruned[180] < 0.01


def agreeing(share, steps, size=4000):
    """Mean squares of momentum and gradient, of gradients of which a share is signal."""
    torch.manual_seed(0)
    signal = share**0.5 * torch.randn(size)
    state = init_moments(signal, "float32")
    for _ in range(steps):
        gradient = signal + (1 - share) ** 0.5 * torch.randn(size)
        state, moments = update_moments(state, gradient)
        yield *(m.square().mean() for m in moments[:2]), moments.square.mean(), state["step"]


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.0, 0.1, 0.1), (0.03, 0.1, 0.11), (0.3, 1.0, 1.0)]
)
def test_steps_are_full_once_gradients_have_agreed(share, least, most):
    base_update, evidence = BaseUpdate(), torch.tensor(0.0)
    for seen in agreeing(share, 30):
        evidence = base_update.evidence(evidence, *seen)
    assert least <= evidence <= most


def test_little_signal_is_evidence_in_the_long_run():
    base_update, found = BaseUpdate(), [torch.tensor(0.0)]
    for seen in agreeing(0.04, 200):
        found.append(base_update.evidence(found[-1], *seen))
    assert float(found[20]) < 0.2
    assert float(found[200]) == 1.0


def test_evidence_of_the_first_two_gradients_is_none_and_what_is_earned_stays():
    base_update, found = BaseUpdate(), [torch.tensor(0.0)]
    for share, steps in ((1.0, 10), (0.0, 40)):
        for seen in agreeing(share, steps):
            found.append(base_update.evidence(found[-1], *seen))
    assert [float(evidence) for evidence in found[1:3]] == pytest.approx([0.1, 0.1])
    assert float(found[10]) == float(found[-1]) == 1.0


def test_a_step_grows_to_what_is_earned_by_a_factor():
    base_update = BaseUpdate(evidence_least=0.1, evidence_growth=2.0)
    steps = [1.0, 2.0, 4.0, 5.0, 1000.0]
    found = [float(base_update.share(torch.tensor(1.0), torch.tensor(step))) for step in steps]
    assert found == pytest.approx([0.1, 0.2, 0.8, 1.0, 1.0])
    assert float(base_update.share(torch.tensor(0.3), torch.tensor(5.0))) == pytest.approx(0.3)


def test_no_gradients_are_no_evidence():
    nothing = torch.tensor(0.0)
    for step in (1.0, 2.0, 100.0):
        found = BaseUpdate().evidence(*[nothing] * 4, torch.tensor(step))
        assert float(found) == pytest.approx(0.1)


def test_scale_is_bounded_and_starts_at_one():
    scale = BaseUpdate(scale_bound=0.5).scale(torch.tensor([0.0, 1e9, -1e9, 0.1]))
    assert scale[0] == 1
    torch.testing.assert_close(scale[1:3], torch.tensor([0.5, -0.5]).exp())
    assert scale[3] > 1


S = spaces(x=4, h=64, wide=100_000)


@pytest.mark.parametrize("other", ["age", "late"])
@pytest.mark.parametrize("number", [float, torch.tensor])
def test_steps_shrink_with_age(other, number):
    named = {"age": "late", "late": "age"}[other]

    def found(power, reference):
        options = {f"{other}_power": 0.0, f"{named}_power": power, f"{named}_reference": reference}
        base_update = BaseUpdate(boost=2.0, **options)
        return [float(base_update.annealing_factor(number(age))) for age in (0.0, 300.0, 9900.0)]

    assert found(0.5, 100) == pytest.approx([2.0, 1.0, 0.2])
    assert found(1.0, 300)[:2] == pytest.approx([2.0, 1.0])
    assert found(0.0, 100) == [2.0] * 3


def test_steps_shrink_faster_in_the_long_run():
    powers = {"age_power": 0.5, "age_reference": 1.0, "late_power": 0.25, "late_reference": 1.0}
    base_update = BaseUpdate(boost=1.0, **powers)
    found = [base_update.annealing_factor(age) for age in (0.0, 3.0, 15.0)]
    assert found == pytest.approx([1.0, 2**-1.5, 2**-3])


@pytest.mark.parametrize("number", [float, torch.tensor])
def test_steps_are_steady_where_a_script_lowers_the_learning_rate(number):
    base_update = BaseUpdate(boost=6.0, steady_boost=2.0)
    assert float(base_update.annealing_factor(number(0.0), lowered=True)) == 2.0
    late = base_update.annealing_factor(1000.0)
    assert late < 2.0
    assert float(base_update.annealing_factor(number(1000.0), lowered=True)) == pytest.approx(late)


def test_corrections_shrink_with_age():
    correction = torch.tensor([-100.0, 0.0, 0.5])
    departures = {
        step: BaseUpdate(trust=0.5, trust_power=2.0, trust_reference=100).departure(
            correction, torch.tensor(step)
        )
        for step in (0.0, 100.0)
    }
    torch.testing.assert_close(departures[0.0], 0.5 * correction.tanh())
    torch.testing.assert_close(departures[100.0], departures[0.0] / 4)
    never = BaseUpdate(trust=0.5, trust_power=0.0).departure(correction, torch.tensor(1e6))
    assert torch.equal(never, departures[0.0])


def test_steps_shrink_with_the_number_of_plain_layers():
    base_update = BaseUpdate(depth_reference=6.0)
    assert [base_update.depth_scale(layers) for layers in (1, 6, 12, 24)] == [1.0, 1.0, 0.5, 0.25]
    assert BaseUpdate(depth_reference=8.0, depth_power=0.5).depth_scale(32) == 0.5
    assert BaseUpdate(depth_power=0.0).depth_scale(100) == 1.0


def test_what_is_not_learned_of_a_step():
    base_update = BaseUpdate()
    square = torch.tensor(0.25 / (3 * 64))
    part = bundle("linear", S, ["h", "h"], "oi")
    shared = base_update.fan_scale(part, "linear") * base_update.depth_scale(12)
    found = base_update.step_scale(part, "linear", 12, square)
    torch.testing.assert_close(found, torch.tensor(shared * 0.25))
    unaware = BaseUpdate(weight_reference=0.0)
    found = unaware.step_scale(part, "linear", 12, square)
    torch.testing.assert_close(found, torch.tensor(shared))


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (bundle("bias", S, ["h"], "o"), "linear"),
        (bundle("norm", S, ["h"], "o"), "normalization"),
        (bundle("embedding", S, ["wide", "h"], "io"), "embedding"),
    ],
    ids=["bias", "norm", "embedding"],
)
def test_only_weights_of_sums_take_steps_in_proportion_to_their_size(part, kind):
    factor = 1.0 if kind == "embedding" else 2.0
    found = [
        BaseUpdate().step_scale(part, kind, 1, torch.tensor(square)) for square in (0.0, 1e-6, 1e6)
    ]
    assert found == [factor] * 3


def test_weight_scale_is_one_half_for_a_fresh_linear_layer_and_never_above_one():
    layer = nn.Linear(256, 256)
    square = layer.weight.detach().square().mean()
    base_update = BaseUpdate(weight_reference=2.0)
    (bundle,) = NeuralGraph.per_tensor({"w": (256, 256)}).layout("w").bundles
    usual = base_update.usual_weight(bundle, "linear")
    scales = [float(base_update.weight_scale(square * x**2, usual)) for x in (0.5, 1, 2, 100)]
    assert scales == pytest.approx([0.25, 0.5, 1.0, 1.0], rel=0.02)
    assert float(base_update.weight_scale(square * 0, usual)) == pytest.approx(
        base_update.weight_low
    )


FAN = {"fan_power": 0.5, "fan_reference": 512.0, "fan_low": 0.25, "fan_high": 8.0, "fan_free": 2.0}
FAN["fan_embedding"] = 0.5


@pytest.mark.parametrize(
    ("part", "kind", "factor"),
    [
        (bundle("linear", S, ["h", "h"], "oi"), "linear", 8**0.5),
        (bundle("convolution", S, ["wide", "h", 4, 4], "oitt"), "convolution", 8**0.5),
        (bundle("narrow", S, ["h", "x"], "oi"), "linear", 8.0),
        (bundle("wide", S, ["h", "wide"], "oi"), "linear", 0.25),
        (bundle("bias", S, ["h"], "o"), "linear", 2.0),
        (bundle("norm", S, ["h"], "o"), "normalization", 2.0),
        (bundle("embedding", S, ["wide", "h"], "io"), "embedding", 0.5),
    ],
    ids=lambda value: value.parameter if hasattr(value, "parameter") else "",
)
def test_fan_scale(part, kind, factor):
    assert BaseUpdate(**FAN).fan_scale(part, kind) == pytest.approx(factor)


def test_fan_scale_is_configurable():
    part = bundle("linear", S, ["h", "h"], "oi")
    changed = [{"fan_power": 0.0}, {"fan_power": 1.0, "fan_reference": 128.0}, {"fan_high": 2.5}]
    found = [BaseUpdate(**{**FAN, **change}).fan_scale(part, "linear") for change in changed]
    assert found == [1, 2, 2.5]


@pytest.mark.parametrize(
    "options",
    [
        {"trust": 1.0},
        {"trust": -0.1},
        {"depth_power": -1.0},
        {"nesterov": -0.5},
        {"nesterov_reference": 0.0},
        {"equal_rows": 2},
        {"depth_reference": 0.0},
        {"scale_bound": -1.0},
        {"slow": -1.0},
        {"late_slow": -1.0},
        {"slow_power": -0.1},
        {"slow_power": 1.5},
        {"slow_reference": 50.0},
        {"scarce_damping": -1e-3},
        {"scarce_damping": 2.0},
        {"late_slow_reference": 0.0},
        {"slow_bound": -1.0},
        {"orthogonal": -1},
        {"whitened_orthogonal": -1},
        {"whitened_orthogonal": 1.5},
        {"orthogonal_damping": -0.1},
        {"orthogonal": 2.5},
        {"age_power": -0.5},
        {"age_reference": 0.0},
        {"late_power": -0.5},
        {"late_reference": 0.0},
        {"trust_power": -1.0},
        {"trust_reference": 0.0},
        {"fan_free": 0.0},
        {"fan_embedding": 0.0},
        {"fan_reference": 0.0},
        {"fan_low": 0.0},
        {"fan_low": 9.0},
        {"fan_power": math.nan},
        {"weight_reference": -1.0},
        {"weight_low": 0.0},
        {"weight_low": 1.5},
        {"boost": 0.0},
        {"steady_boost": -1.0},
        {"evidence_least": 0.0},
        {"evidence_least": 1.5},
        {"evidence_growth": 0.9},
        {"evidence_share": 0.0},
        {"evidence_lasting": 0.0},
        {"evidence_power": -1.0},
    ],
    ids=str,
)
def test_senseless_bounds(options):
    with pytest.raises(RuleError, match=r"(?s)cannot keep updates near Adam's.*0 <= trust < 1"):
        BaseUpdate(**options)


def test_changes_by_name():
    assert BaseUpdate.of(None) == BaseUpdate()
    assert BaseUpdate.of({"trust": 0.5}) == BaseUpdate(trust=0.5)
    with pytest.raises(RuleError, match=r"no 'speed'(?s:.*)slow, (?s:.*)trust"):
        BaseUpdate.of({"speed": 1.0})
