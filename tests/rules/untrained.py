"""Slow and obvious: what an untrained rule does, by singular values instead of iterations."""

import torch

from ngopt.features.bundle_features import fan_in
from ngopt.graph.matrix import matrices


def by_singular_values(matrices, steps=5, coefficients=(3.4445, -4.7750, 2.0315)):
    """The published iteration on the singular values of matrices `(..., rows, columns)`."""
    a, b, c = coefficients
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    values = values / values.square().sum(-1, keepdim=True).sqrt()
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag_embed(values) @ right


def rough_polar_factor(matrices, steps, damping=0.0):
    """Polynomials of the damped singular values of matrices `(..., rows, columns)`."""
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    squares = values.square()
    damped = (squares + damping * squares.mean(-1, keepdim=True)).sqrt()
    now = damped / damped.pow(4).sum(-1, keepdim=True) ** 0.25
    polynomials = (6.408, -18.01, 13.153), (3.349, -3.297, 0.946), (2.0527, -1.4301, 0.3896)
    for number in range(steps):
        a, b, c = polynomials[min(number, 2)]
        now = a * now + b * now**3 + c * now**5
    return left @ torch.diag_embed(now * values / damped) @ right


def untrained_update(base_update, layout, bundle, weight, gradient, moments, step, layers, share):
    """Update of a bundle by a rule that has learned nothing, array `(group, out, in, tap)`.

    Args:
        base_update: of the rule.
        layout: of the parameter.
        bundle: the bundle.
        weight: array of the bundle.
        gradient: its gradient.
        moments: fast, slow and square, bias-corrected, each an array of the bundle.
        step: number of gradients so far.
        layers: of the model.
        share: of a full step that is taken.
    """
    fast, slow, square = moments
    early = base_update.nesterov / (1 + step / base_update.nesterov_reference)
    momentum = fast + base_update.slow * (1 - 0.99**step) * slow + early * gradient
    direction = momentum / square.sqrt()
    found = matrices(layout)
    if found and base_update.orthogonal:
        matrix = found[layout.bundles.index(bundle)]
        orthogonal = rough_polar_factor(matrix.view(momentum), base_update.orthogonal)
        if base_update.equal_rows:
            sizes = orthogonal.norm(dim=2, keepdim=True)
            orthogonal = torch.where(sizes > 0, orthogonal / sizes, 0.0)
        orthogonal = matrix.array(orthogonal) * fast**2 / (fast**2 + 3e-3**2 * square)
        direction = orthogonal * direction.norm() / orthogonal.norm()
    depth = min(1.0, base_update.depth_reference / layers) ** base_update.depth_power
    update = direction * share * depth * base_update.fan_scale(bundle, layout.kind)
    if "in" not in bundle.roles or layout.kind in ("normalization", "elementwise", "embedding"):
        return update
    proportion = weight.square().mean().sqrt() * (3 * fan_in(bundle)) ** 0.5
    return update * (proportion / base_update.weight_reference).clamp(base_update.weight_low, 1)
