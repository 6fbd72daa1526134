"""The base update that learned rules correct within bounds: its direction and its size."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.bundle_features import fan_in, input_indices
from ngopt.features.moments import FAST, SLOW, Moments, Window
from ngopt.features.numbers import Number, either, smaller
from ngopt.features.scale import EPS, floored, root, root_inverse, row_squares, scaled
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Kind
from ngopt.graph.matrix import Matrix
from ngopt.rules.layers.polar import rough_polar_factor

FORGOTTEN = 3e-3
"""Fast momentum, relative to the root mean square, below which an entry counts as inactive."""

LITTLE = 1e-4
"""Added to one minus chance, which is 0 at the first step."""

FREE_OF_FAN: tuple[Kind, ...] = ("normalization", "elementwise", "embedding")
"""Kinds of layers whose outputs are not sums over many inputs (an embedding picks one)."""


@dataclass(frozen=True)
class BaseUpdate:
    """The hand-made update of a bundle, and the bounds of its learned corrections.

    The update of a bundle is

        evidence * scale * fan_scale * weight_scale * depth_scale * d,
        d = rescaled(a + trust * rms(a) * tanh(correction) + decay * rms(a) * w / rms(w))

    where the base direction `a` starts from Adam's plus `slow` times the slow momentum in Adam's
    units (Pagliardini et al., "The AdEMAMix Optimizer", ICLR 2025), plus at first some of the
    gradient itself, as Nesterov's momentum has. For matrices it has the size of that, but is the
    orthogonalized momentum (Jordan et al., "Muon", 2024), of the same mixture, with rows of equal
    size (Li et al., "NorMuon", 2025, who average the sizes over time). `d` has the RMS of `a`, and
    `scale = exp(scale_bound * tanh(raw))`; `decay = decay_bound * tanh(raw)` pulls weights `w`
    towards 0, or away. Whatever is learned, the sine of the angle between `d` and `a` is at most
    `trust + decay_bound`, of which `trust` shrinks in the long run, and an untrained rule, whose
    correction, raw scale and raw decay are 0, has `d = a` and `scale = 1` exactly. The slow
    momentum counts as far as it has filled up.

    Args:
        slow: weight of the slow momentum in the base direction, at first.
        slow_power: the slow momentum averages over 100 steps, which grow by this power of age; 0
            for always 100.
        slow_reference: number of steps after which they begin to grow; at least 100.
        late_slow: by how much its weight in matrices grows in the long run, where gradients are
            noise that has to average out: to `1 + late_slow` times that.
        late_slow_reference: number of steps after which half of that is added.
        nesterov: weight of the gradient in the base direction, at first.
        nesterov_reference: number of steps after which that is half of it; it is inverse to age.
        orthogonal: number of iterations that orthogonalize matrices; 0 for Adam's direction.
        whitened_orthogonal: the same after whitening; 0 for none.
        orthogonal_damping: what is added to squared singular values of whitened matrices for that,
            in units of their mean. With 0 all singular values come near 1; with more, only those
            far above the root of that do, and those far below keep their proportions.
        equal_rows: whether all rows of an orthogonalized or whitened matrix get the same size.
        whitening_limit: momenta of bundles with at most so many outputs, inputs and taps are
            whitened instead of orthogonalized: multiplied by inverse roots of the covariances of
            their gradients. 0 for none. For each of the three sizes n, the state grows by two
            matrices n x n, from 256 on by three n x 64. Only
            :class:`~ngopt.rules.matrix_gnn.MatrixGNN` does it.
        whitening_decay: decay of the running means that are these covariances.
        damping: what is added to covariances in the long run, in units of their largest eigenvalue.
        scarce_damping: what is added to covariances of as many lines of gradients as they have
            rows, which such few lines hardly fill; it shrinks with the square of the number of
            lines, down to `damping`.
        first_damping: what is added at the first step; it shrinks with the square of their number.
        trust: how far from the base direction, at first; from 0 to below 1.
        trust_power: by what power of their number corrections shrink in the long run. What was
            learned on some hundreds of steps need not hold after thousands.
        trust_reference: number of steps after which they begin to.
        scale_bound: largest learned log factor of a bundle.
        decay_bound: largest learned pull of weights towards 0, or away: the RMS of what it adds to
            a direction, in units of the direction's; at most nine tenths of `1 - trust`.
        slow_bound: largest learned log factor of the weight of the slow momentum in matrices.
        fan_power: by what power of the fan-in steps shrink.
        fan_reference: the fan-in at which they are Adam's.
        fan_low: least factor by fan-in.
        fan_high: largest factor by fan-in.
        fan_free: factor of parameters without a fan-in: biases, norms.
        fan_embedding: factor of embeddings.
        weight_reference: the RMS of a layer's weights up to which its steps are in proportion to
            it, in units of that with which PyTorch's linear layers begin; 0 for steps that do not
            depend on it.
        weight_low: least factor by the RMS of weights, so that weights can leave 0.
        depth_power: by what power of the number of layers steps shrink.
        depth_reference: number of layers up to which they do not.
        boost: size of the first full steps, in units of AdamW's at the same learning rate.
        steady_boost: largest size where a script lowers the learning rate.
        age_power: by what power of their number steps shrink.
        age_reference: number of steps after which they begin to.
        late_power: by what more in the long run.
        late_reference: number of steps after which that begins.
        late_decay: weight decay in the long run, where the script leaves it to the rule.
        late_decay_reference: number of steps after which it is half of that.
        evidence_least: share of a full step that is taken without evidence; 1 for always all of it.
        evidence_growth: by what factor the share of a full step grows at most from step to step.
        evidence_share: share of signal in the gradients from which steps are full.
        evidence_lasting: the same for the slow momentum, in units of what chance leaves in it.
        evidence_power: by what power of these shares steps are smaller below.
    """

    slow: float = 1.0
    slow_power: float = 0.0
    slow_reference: float = 200.0
    late_slow: float = 0.0
    late_slow_reference: float = 1000.0
    nesterov: float = 0.8
    nesterov_reference: float = 100.0
    orthogonal: int = 3
    whitened_orthogonal: int = 0
    orthogonal_damping: float = 1.0
    equal_rows: bool = True
    whitening_limit: int = 0
    whitening_decay: float = 0.95
    damping: float = 1e-5
    scarce_damping: float = 1.5e-3
    first_damping: float = 0.3
    trust: float = 0.9
    trust_power: float = 1.0
    trust_reference: float = 1000.0
    scale_bound: float = 2.0
    decay_bound: float = 0.09
    slow_bound: float = 2.0
    fan_power: float = 0.5
    fan_reference: float = 512.0
    fan_low: float = 0.25
    fan_high: float = 8.0
    fan_free: float = 2.0
    fan_embedding: float = 1.0
    weight_reference: float = 2.0
    weight_low: float = 0.1
    depth_power: float = 1.0
    depth_reference: float = 3.0
    boost: float = 6.0
    steady_boost: float = 2.0
    age_power: float = 0.5
    age_reference: float = 30.0
    late_power: float = 0.5
    late_reference: float = 1000.0
    late_decay: float = 0.0
    late_decay_reference: float = 3000.0
    evidence_least: float = 0.1
    evidence_growth: float = 1.6
    evidence_share: float = 0.15
    evidence_lasting: float = 4.0
    evidence_power: float = 2.0

    def __post_init__(self) -> None:
        sane = (
            0 <= self.trust < 1
            and min(self.slow, self.late_slow, self.nesterov, self.late_decay) >= 0
            and 0 <= self.slow_power <= 1
            and self.slow_reference >= 100
            and isinstance(self.equal_rows, bool)
            and all(isinstance(n, int) for n in (self.orthogonal, self.whitened_orthogonal))
            and min(self.orthogonal, self.whitened_orthogonal, self.orthogonal_damping) >= 0
            and isinstance(self.whitening_limit, int)
            and self.whitening_limit >= 0
            and 0 <= self.whitening_decay < 1
            and 1e-6 <= self.damping <= 1
            and min(self.first_damping, self.scarce_damping) >= 0
            and max(self.first_damping, self.scarce_damping) <= 1
            and min(self.age_power, self.late_power, self.depth_power, self.trust_power) >= 0
            and min(self.age_reference, self.late_reference, self.trust_reference) > 0
            and min(self.depth_reference, self.nesterov_reference) > 0
            and min(self.late_slow_reference, self.late_decay_reference) > 0
            and min(self.boost, self.steady_boost) > 0
            and min(self.evidence_share, self.evidence_lasting) > 0
            and 0 < self.evidence_least <= 1 <= self.evidence_growth
            and self.evidence_power >= 0
            and min(self.fan_free, self.fan_embedding) > 0
            and self.weight_reference >= 0
            and 0 < self.weight_low <= 1
            and min(self.scale_bound, self.decay_bound, self.slow_bound) >= 0
            and self.fan_reference > 0
            and 0 < self.fan_low <= self.fan_high
            and all(math.isfinite(value) for value in asdict(self).values())
        )
        if not sane:
            raise RuleError(
                f"{self} cannot keep updates near Adam's.\n  Use 0 <= trust < 1; slow_power from 0 "
                "to 1; slow_reference >= 100; slow, late_slow, nesterov, late_decay, scale_bound, "
                "decay_bound, slow_bound, weight_reference, "
                "orthogonal_damping and powers >= 0; whole orthogonal and whitened_orthogonal >= "
                "0; equal_rows True or False; whole whitening_limit >= 0; 0 <= whitening_decay < "
                "1; 1e-6 <= damping <= 1; scarce_damping and first_damping from 0 to 1; 0 < "
                "fan_low <= fan_high; fan_free > 0, fan_embedding > 0; 0 < weight_low <= 1; 0 < "
                "evidence_least <= 1, evidence_growth >= 1; and boost, steady_boost, "
                "evidence_share, evidence_lasting and other references > 0; all finite."
            )

    @classmethod
    def of(cls, changes: Mapping[str, float] | None) -> "BaseUpdate":
        """Build one from changes to the defaults, by name; `RuleError` for unknown names."""
        values: dict[str, Any] = dict(changes or {})
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise RuleError(
                f"the base update has no {', '.join(map(repr, unknown))}.\n"
                f"  Use any of: {', '.join(known)}."
            )
        return cls(**values)

    @property
    def window(self) -> Window:
        """Of the slow momentum."""
        return Window(self.slow_power, self.slow_reference)

    def gate(self, correction: Tensor, moments: Moments) -> Tensor:
        """Set corrections to 0 where an entry has had no gradient for long, such as pruned ones.

        Args:
            correction: what the rule would add, or the orthogonalized momentum.
            moments: of the same shape.

        Returns:
            The same, next to 0 where the momentum is far below the root of the square, and 0 where
            there was no gradient.
        """
        return correction * self.alive(moments)

    def alive(self, moments: Moments) -> Tensor:
        """Factor that is near 0 for entries that have had no gradient for long, else near 1.

        Without a gradient, the fast momentum is down to :data:`FORGOTTEN` after 55 steps.
        """
        # Momentum passes through 0, so it is compared with other gradients.
        recent = moments.fast.square()
        return recent / (recent + floored(moments.square) * FORGOTTEN**2)

    def base(
        self,
        fast: Tensor,
        slow: Tensor,
        gradient: Tensor,
        step: Tensor,
        slow_factor: Tensor | None = None,
    ) -> Tensor:
        """Return the base direction, which a rule corrects.

        Args:
            fast: momentum of a bundle (bias-corrected), in units of the root mean square (the Adam
                direction) or not.
            slow: its slow momentum (bias-corrected), in the same units; of the same shape.
            gradient: its gradient, in the same units.
            step: number of gradients so far, 0-dim.
            slow_factor: of the weight of the slow momentum, 0-dim; 1 by default.
        """
        weight, nesterov = self.mixture(step)
        if slow_factor is not None:
            weight = weight * slow_factor
        return self.mixed(fast, slow, gradient, weight, nesterov)

    def mixture(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the slow momentum and of the gradient in the base direction.

        Args:
            step: number of gradients so far, any shape.
        """
        filled = -torch.expm1(step * math.log(SLOW))
        return self.slow * filled, self.nesterov / (1 + step / self.nesterov_reference)

    def mixed(
        self, fast: Tensor, slow: Tensor, gradient: Tensor, weight: Tensor, nesterov: Tensor
    ) -> Tensor:
        """Mix the base direction; the last arguments are what :meth:`mixture` returned."""
        mixture = torch.addcmul(fast, slow, weight.to(fast))
        return torch.addcmul(mixture, gradient, nesterov.to(fast)) if self.nesterov else mixture

    def orthogonalized(self, momentum: Tensor, matrix: Matrix) -> Tensor:
        """Return the base direction of a matrix, not yet of the right size.

        Args:
            momentum: :meth:`base` of the momenta themselves, array `(..., group, out, in, tap)`;
                it is overwritten where no derivative needs it.
            matrix: its bundle, or one like it, as matrices.

        Returns:
            Array of the same shape; 0 where rows of the momentum are 0.
        """
        return matrix.array(self._orthogonalized(matrix.view(momentum), self.orthogonal, 0.0))

    def orthogonalized_whitened(self, whitened: Tensor) -> Tensor:
        """Return whitened matrices, orthogonalized and with equal rows where that is asked for.

        Args:
            whitened: `(..., rows, columns)`; overwritten where no derivative needs them.
        """
        return self._orthogonalized(whitened, self.whitened_orthogonal, self.orthogonal_damping)

    def _orthogonalized(self, matrices: Tensor, iterations: int, damping: float) -> Tensor:
        given = matrices.reshape(-1, *matrices.shape[-2:])
        if iterations:
            given = scaled(given, inverse_norms(given))
            given = rough_polar_factor(given, iterations, damping)
        if self.equal_rows:
            given = scaled(given, torch.rsqrt(row_squares(given) + EPS**2))
        return given.reshape(matrices.shape)

    def damping_at(self, step: Tensor, side: int, lines: int) -> Tensor:
        """What is added to covariances after a number of gradients, any shape.

        The first gradients show few of the directions that gradients have. Later, covariances lack
        those that the slow momentum still has, if they have many rows for few lines.

        Args:
            step: number of gradients.
            side: number of rows of the covariances.
            lines: number of lines of one gradient that are taken in.
        """
        gradients = (1 + self.whitening_decay) / (1 - self.whitening_decay)
        scarce = self.scarce_damping * (side / (lines * gradients)) ** 2
        at_first: Tensor = self.first_damping / step.square()
        return at_first.clamp(min=min(1.0, max(self.damping, scarce)))

    def direction(self, base: Tensor, correction: Tensor, step: Tensor) -> Tensor:
        """Correct a direction within bounds.

        Args:
            base: the direction.
            correction: what the rule would add, of the same shape; any finite numbers.
            step: number of gradients so far, 0-dim.

        Returns:
            A direction of the same shape and RMS; `base` itself where the correction is all 0.
        """
        before = base.square().mean()
        corrected = self.correct(base, correction, before, step)
        return corrected * self.rescale(before, corrected.square().mean())

    def correct(self, base: Tensor, correction: Tensor, before: Tensor, step: Tensor) -> Tensor:
        """Correct a direction, or a block of it, without rescaling it yet.

        Args:
            base: the direction.
            correction: what the rule would add, of the same shape.
            before: mean square of the whole direction, 0-dim.
            step: number of gradients so far, 0-dim.
        """
        return base + root(before) * self.departure(correction, step)

    def departure(self, correction: Tensor, step: Tensor) -> Tensor:
        """How far :meth:`correct` moves each entry, in units of the RMS of the direction."""
        return self.trusted(step).to(correction) * torch.tanh(correction)

    def trusted(self, step: Tensor) -> Tensor:
        """Bound of corrections after a number of gradients, any shape."""
        trusted: Tensor = self.trust * (1 + step / self.trust_reference) ** -self.trust_power
        return trusted

    def rescale(self, before: Tensor, after: Tensor) -> Tensor:
        """Factor that restores the size of a corrected direction.

        Args:
            before: mean square of the base direction, 0-dim.
            after: mean square of the corrected one, 0-dim.
        """
        # One root of the ratio, so that equal numbers give a factor of exactly 1.
        return torch.sqrt(floored(before) / floored(after))

    def scale(self, raw: Tensor) -> Tensor:
        """Map raw learned numbers to factors from `exp(-scale_bound)` to `exp(scale_bound)`."""
        return torch.exp(self.scale_bound * torch.tanh(raw))

    def decay(self, raw: Tensor) -> Tensor:
        """Map raw learned numbers to pulls of weights towards 0, within `decay_bound`."""
        return min(self.decay_bound, 0.9 * (1 - self.trust)) * torch.tanh(raw)

    def slow_factor(self, raw: Tensor, step: Tensor, signal: Tensor) -> Tensor:
        """Factor of the weight of the slow momentum in matrices, of the shape of all arguments.

        Args:
            raw: learned numbers; these alone make factors from `exp(-slow_bound)` to
                `exp(slow_bound)`.
            step: number of gradients so far.
            signal: what :meth:`signal` returned; where gradients are no noise, there is nothing to
                average out, and the slow momentum lags behind.
        """
        late = self.late_slow * step / (step + self.late_slow_reference) * (1 - signal)
        return (1 + late) * torch.exp(self.slow_bound * torch.tanh(raw))

    def signal(self, fast: Tensor, square: Tensor, step: Tensor) -> Tensor:
        """Share of signal in gradients, from 0 to 1, of the shape of all arguments.

        Args:
            fast: mean of the squares of the fast momentum.
            square: mean of squared gradients.
            step: number of gradients so far.
        """
        return _signal(fast, square, step.to(fast), 1 - FAST)[0].clamp(0.0, 1.0)

    def step_scale(self, bundle: Bundle, kind: Kind, layers: int, weight: Tensor) -> Tensor:
        """Factor of the step size that is not learned, 0-dim.

        Args:
            bundle: the bundle.
            kind: of its parameter's layer.
            layers: number of layers of the model, on the shortest path from inputs to outputs.
            weight: mean of the squares of its weights, 0-dim.
        """
        fixed, usual = self.fixed_scale(bundle, kind, layers), self.usual_weight(bundle, kind)
        if not usual:
            return torch.full_like(weight, fixed)
        return fixed * self.weight_scale(weight, usual)

    def fixed_scale(self, bundle: Bundle, kind: Kind, layers: int) -> float:
        """The part of :meth:`step_scale` that the graph alone determines."""
        return self.fan_scale(bundle, kind) * self.depth_scale(layers)

    def usual_weight(self, bundle: Bundle, kind: Kind) -> float:
        """RMS of such weights in PyTorch at first; 0 where steps do not depend on weights."""
        if "in" not in bundle.roles or kind in FREE_OF_FAN or not self.weight_reference:
            return 0.0
        # Uniform between minus and plus one over the root of the fan-in.
        return math.pow(3 * fan_in(bundle), -0.5)

    def evidence(
        self, before: Tensor, fast: Tensor, slow: Tensor, square: Tensor, step: Tensor
    ) -> Tensor:
        """Share of a full step that the agreement of gradients allows, 0-dim.

        Steps begin small. The weights hardly change then, and the agreement of gradients measures
        their share of signal: half in a fresh transformer, a fiftieth in a trained one. Where most
        is noise, agreement over many steps counts. Trained models keep small steps until gradients
        agree again.

        Args:
            before: what this returned at the last refresh of the context, 0-dim; 0 before that.
            fast: mean of the squares of the fast momentum, 0-dim.
            slow: mean of the squares of the slow momentum, 0-dim.
            square: mean of squared gradients, 0-dim.
            step: number of gradients so far, 0-dim.
        """
        count = step.to(fast)
        signal, _ = _signal(fast, square, count, 1 - FAST)
        lasting, chance = _signal(slow, square, count, self.window.share(count))
        most = torch.maximum(
            signal / self.evidence_share, lasting / (chance * self.evidence_lasting)
        )
        # A few gradients may agree by chance.
        earned = most.clamp(0.0, 1e3) * (1 - 2 / count).clamp(min=0.0)
        earned = earned**self.evidence_power
        return torch.maximum(earned, before).clamp(self.evidence_least, 1.0)

    def share(self, evidence: Tensor, step: Tensor) -> Tensor:
        """Share of a full step that is taken, 0-dim: the evidence, approached gradually.

        Args:
            evidence: what :meth:`evidence` returned, 0-dim.
            step: number of gradients so far, 0-dim.
        """
        begun = torch.exp((step.to(evidence) - 1) * math.log(self.evidence_growth))
        return torch.minimum(evidence, self.evidence_least * begun)

    def weight_scale(self, square: Tensor, usual: float | Tensor) -> Tensor:
        """Factor that keeps steps in proportion to small weights, of the shape of `square`.

        A layer that is initialised to small weights (of a sine network, of a deep transformer) is
        one that large steps would throw off.

        Args:
            square: mean of the squares of the weights, any shape.
            usual: what :meth:`usual_weight` returned, not 0.

        Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76
        minutes", ICLR 2020, for steps in proportion to weights.
        """
        return (root(square) / (self.weight_reference * usual)).clamp(self.weight_low, 1.0)

    def depth_scale(self, layers: int) -> float:
        """Factor that keeps the effect of a step through many plain layers bounded."""
        return math.pow(min(1.0, self.depth_reference / layers), self.depth_power)

    def annealing_factor(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """Size of full steps, in units of AdamW's at the same learning rate.

        It shrinks with age, so that noise averages out without a schedule.

        Args:
            age: number of steps so far; a number or a 0-dim tensor.
            lowered: whether a script lowers the learning rate; then it is no larger than
                `steady_boost`.
        """
        early: Number = (1 + age / self.age_reference) ** -self.age_power
        late: Number = (1 + age / self.late_reference) ** -self.late_power
        size = self.boost * early * late
        return either(lowered, smaller(size, self.steady_boost), size)

    def weight_decay(self, steps: Number) -> Number:
        """Weight decay, in AdamW's unit: the longer a training, the more it may overfit.

        Args:
            steps: number of steps so far; a number or a tensor.
        """
        return self.late_decay * steps / (steps + self.late_decay_reference)

    def fan_scale(self, bundle: Bundle, kind: Kind) -> float:
        """Factor that keeps a step's effect on a layer's output alike over widths.

        Biases, norms and embeddings do not add inputs up and have constants of their own. Kernel
        taps do not count: Adam's best learning rates for convolutions hardly fall with them.
        """
        if kind == "embedding":
            return self.fan_embedding
        if "in" not in bundle.roles or kind in FREE_OF_FAN:
            return self.fan_free
        factor = math.pow(self.fan_reference / input_indices(bundle), self.fan_power)
        return min(max(factor, self.fan_low), self.fan_high)


def inverse_norms(matrices: Tensor) -> Tensor:
    """One over the Frobenius norm of each matrix; finite for 0.

    Args:
        matrices: `(matrices, rows, columns)`.

    Returns:
        `(matrices, 1, 1)`.
    """
    rows, columns = matrices.shape[1:]
    factors: Tensor = root_inverse(row_squares(matrices).mean(1, keepdim=True))
    return factors * float((rows * columns) ** -0.5)


def _signal(
    momentum: Tensor, square: Tensor, count: Tensor, share: Number
) -> tuple[Tensor, Tensor]:
    """Share of signal in gradients, and the part of their momentum that is due to chance.

    Args:
        momentum: mean of its squares, 0-dim.
        square: mean of squared gradients, 0-dim.
        count: number of gradients so far, 0-dim.
        share: of the newest gradient in the momentum.

    Returns:
        The share of signal, about 0 (or slightly below) for unrelated gradients, and the mean
        square that unrelated gradients leave in the momentum; both 0-dim.
    """
    decay = torch.log1p(-share) if isinstance(share, Tensor) else math.log(1 - share)
    fading = torch.exp(count * decay)
    chance = share / (2 - share) * (1 + fading) / (1 - fading)
    return (momentum / floored(square) - chance) / (1 - chance + LITTLE), chance
