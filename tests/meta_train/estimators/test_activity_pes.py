from functools import partial

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.estimators.activity_pes import PERTURBATION, ActivityPES
from meta_train.estimators.estimator import Particles
from meta_train.estimators.evolution_strategies import NOW, split_noise
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.backends.dispatch import without_loops
from ngopt.rules import MatrixGNN
from ngopt.rules.tensor_rule import TensorRule
from tests.meta_train.small_tasks import Drift, Network, Quadratic, seeded, small_rule
from tests.meta_train.unbiasedness import check_biased, check_unbiased, estimates, exact
from tests.rules.rule_inputs import randomize


class Steered(TensorRule):
    """Moves rows by an output, which is not linear in theta, and by a weight beside it."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.6, -0.9], dtype=torch.float64))
        self.beside = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.register_buffer("perturbation", torch.zeros(1, dtype=torch.float64))

    @property
    def config(self):
        return {}

    def begin(self, parameter, layout):
        return {"step": torch.zeros(())}

    def output(self, theta):
        return (theta.square() * torch.tensor([0.5, -0.4], dtype=torch.float64)).sum(-1)

    def advance(self, parameter, gradient, state, layout):
        output = self.output(self.theta) + self.perturbation[0]
        moved = torch.stack([output, self.beside - output])
        return moved[:, None] + 0 * gradient, {"step": state["step"] + 1}

    def bundle_outputs(self, parameters, gradients, state, graph):
        return self.output(self.theta).unsqueeze(-1)


@pytest.mark.parametrize("segment", [2, 100], ids=["noise drawn anew", "noise that stays"])
def test_it_is_unbiased_over_the_whole_unroll(segment):
    rows = estimates(partial(ActivityPES, segment=segment), Steered(), 0.1, 2, truncations=2)
    check_unbiased(rows, exact(Steered(), 4))
    check_biased(rows, exact(Steered(), 2, truncations=2))  # truncated backpropagation


def test_it_is_biased_if_it_forgets_the_noise():
    build = partial(ActivityPES, segment=2)
    rows = estimates(build, Steered(), 0.1, 2, truncations=2, forget=True)
    check_biased(rows, exact(Steered(), 4))


def graph_network():
    rule = small_rule("matrix_gnn")
    for weight in (rule.scale[0].weight, rule.start.weight):
        weight.requires_grad_(False)
    return rule


def test_weights_behind_outputs_stay_and_others_are_perturbed():
    rule = graph_network()
    pes = ActivityPES(Stacked(rule, UnrollOptions(lr=1e-3)), MetaLoss(), 2, 0.01, 0.2)
    particles = pes.begin(Network(), 3, seeded())
    theta, noise, kept = pes._perturbed(particles)
    sizes = theta.pop(PERTURBATION)
    assert torch.equal(kept[NOW + PERTURBATION], sizes[:3])
    assert sizes.shape == (6, 4, 2)  # two weights and two biases, sizes and decays
    assert torch.equal(sizes[:3], -sizes[3:])
    for name, weight in rule.named_parameters():
        moved = not torch.equal(theta[name], weight.expand_as(theta[name]))
        behind = name.startswith("scale")
        assert moved == (weight.requires_grad and not behind)
        assert noise[name].any() == weight.requires_grad
    assert torch.isfinite(pes.estimate(particles).losses).all()


def test_each_noise_stays_twice_as_long_as_the_one_before():
    pes = ActivityPES(Stacked(Steered(), UnrollOptions(lr=0.01)), MetaLoss(), 2, segment=4)
    particles, found = pes.begin(Quadratic(), 3, seeded()), []
    for _ in range(16):
        particles = pes.estimate(particles).particles
        found.append(particles.noise[NOW + PERTURBATION])
    changes = [2 * n for n in range(1, 16) if not torch.equal(found[n], found[n - 1])]
    assert changes == [4, 12, 28]


def test_particles_of_old_checkpoints_go_on():
    # Their noise on outputs stood beside the sums of noise on weights.
    pes = ActivityPES(Stacked(Steered(), UnrollOptions(lr=0.01)), MetaLoss(), 2, segment=4)
    begun = pes.estimate(pes.begin(Quadratic(), 3, seeded())).particles
    now, _ = split_noise(begun.noise)
    estimate = pes.estimate(Particles(begun.runs, now))
    assert estimate.gradient.keys() == dict(Steered().named_parameters()).keys()
    assert all(slope.any() for slope in estimate.gradient.values())
    assert split_noise(estimate.particles.noise)[1]["theta"].equal(now["theta"])


def test_noise_on_outputs_moves_sizes_of_steps():
    rule = small_rule("matrix_gnn")
    unroll = Stacked(rule, UnrollOptions(lr=1e-3))
    runs = unroll.begin(Network(), 2, seeded())
    outputs = rule.bundle_outputs(runs.parameters, runs.gradients, runs.state, runs.task.graph)
    own = dict(rule.named_parameters())
    before = runs.parameters
    with torch.no_grad():
        plain = unroll.advance(runs, 1, own).runs.parameters
        noise = torch.tensor([0.3, 0.0], dtype=outputs.dtype).expand_as(outputs)
        runs.generator.manual_seed(0)
        theta = {name: weight.expand(2, *weight.shape) for name, weight in own.items()}
        larger = unroll.advance(runs, 1, {**theta, PERTURBATION: noise}).runs.parameters
    scale = rule.base_update.scale
    expected = (scale(outputs + noise) / scale(outputs))[..., 0]
    distances = (
        torch.stack([(after[name] - before[name]).flatten(1).norm(dim=1) for name in before], 1)
        for after in (larger, plain)
    )
    measured = torch.div(*distances)
    # Bundles come in another order than parameters.
    torch.testing.assert_close(measured.sort(1).values, expected.sort(1).values)


def test_operations_of_torch_estimate_what_compiled_loops_do():
    rule = randomize(MatrixGNN(width=4, rounds=1, hidden=4, graph_sizes=True, context_every=2))

    def estimate():
        unroll = Stacked(rule, UnrollOptions(lr=1e-3, looks="due"))
        pes = ActivityPES(unroll, MetaLoss(), 3, 0.01, 0.2)
        begun = pes.begin(Network(dtype=torch.float32), 4, seeded())
        return pes._perturbed(begun)[1], pes.estimate(begun).losses

    compiled, losses = estimate()
    with without_loops():
        by_torch, expected = estimate()
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    for name in ("start.weight", "rounds.0.to_out.weight", "scale.0.weight", "scale_out.weight"):
        assert compiled[name].abs().max() > 0
        torch.testing.assert_close(compiled[name], by_torch[name], rtol=1e-3, atol=1e-6)


def test_what_cannot_be_perturbed_is_refused():
    with pytest.raises(MetaTrainError, match="sigma_outputs > 0"):
        ActivityPES(Stacked(Steered()), MetaLoss(), 2, 0.1, 0.0)
    with pytest.raises(MetaTrainError, match="Drift has no outputs for bundles"):
        ActivityPES(Stacked(Drift()), MetaLoss(), 2)
