"""The bundle inputs of a small model after a few steps, as a recipe makes them."""

import torch

from ngopt.features.positions import Positions
from ngopt.rules.graph_inputs import BundleInputs
from tests.rules.rule_inputs import draw


def bundle_inputs_of(recipe, described, dtype=torch.float64, steps=3):
    """The inputs of each bundle, and the state of each parameter."""
    parameters = draw(described, 0, dtype)
    states = {name: recipe.begin(tensor) for name, tensor in parameters.items()}
    signals = {}
    for step in range(steps):
        for name, gradient in draw(described, step + 1, dtype).items():
            states[name], signals[name] = recipe.advance(parameters[name], gradient, states[name])
    bundles = [
        BundleInputs(layout, bundle, arrays, states[name]["step"], name, described.shortest_path)
        for name, layout in described.parameters.items()
        for bundle, arrays in zip(
            layout.bundles, zip(*map(layout.views, signals[name]), strict=True), strict=True
        )
    ]
    return bundles, states


def structures_of(described, bundles):
    return [Positions().structure(described, inputs.layout, inputs.bundle) for inputs in bundles]
