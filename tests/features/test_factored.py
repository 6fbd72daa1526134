import pytest
import torch

from ngopt.features.factored import averaged, factor_sizes, split_factors, update_factors
from ngopt.graph.layout import Layout
from ngopt.graph.permute import permute
from tests.hand_built import bundle, spaces
from tests.rules.rule_inputs import GRAPHS, draw

S = spaces(x=2, h=6, m=5, e=3, k=6)
RATES = (0.5, 0.25)


def state(layout, dtype=torch.float64):
    return [torch.zeros(len(RATES), size, dtype=dtype) for size in factor_sizes(layout)]


@pytest.mark.parametrize(
    ("factors", "roles", "expected"),
    [
        (["h", "x"], "oi", (1, 2)),
        (["x", "h"], "oi", (2, 1)),
        (["x", "h"], "io", (1, 2)),
        (["h", "k"], "oi", (1, 2)),
        (["x", "h", 9], "oit", (2, 1)),
        (["h"], "o", None),
        (["h", 7], "ot", None),
        ([7, "h"], "ti", None),
        ([], "", None),
    ],
    ids=str,
)
def test_the_larger_end_is_averaged_over_for_rows(factors, roles, expected):
    assert averaged(bundle("w", S, factors, roles)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_run_over_neurons_within_each_group_and_tap(dtype):
    part = bundle("w", S, ["m", "x", "e", 4], "goit")
    layout = Layout("w", part.sizes, (part,))
    gradients = [torch.randn(part.sizes, dtype=dtype) for _ in range(2)]
    rows, columns = state(layout, dtype)
    for gradient in gradients:
        rows, columns = update_factors(rows, columns, gradient, layout, RATES)
    (found,) = split_factors(rows, columns, layout)
    assert found.rows.shape == (2, 5, 2, 1, 4)
    assert found.columns.shape == (2, 5, 1, 3, 4)
    for number, rate in enumerate(RATES):
        one, two = (gradient.square() for gradient in gradients)
        mean = rate * (1 - rate) * one + rate * two
        torch.testing.assert_close(found.rows[number, :, :, 0], mean.mean(2))
        torch.testing.assert_close(found.columns[number, :, 0], mean.mean(1))
        rank_1 = found.rows[number] * found.columns[number]
        expected = (rank_1 / found.rows[number].mean(1, keepdim=True)).rsqrt()
        torch.testing.assert_close(found.scale()[number], expected)


def test_what_has_no_inputs_is_not_factored():
    part = bundle("b", S, ["h"], "o")
    layout = Layout("b", (6,), (part,))
    gradient = torch.randn(6, dtype=torch.float64)
    rows, columns = update_factors(*state(layout), gradient, layout, RATES)
    (found,) = split_factors(rows, columns, layout)
    assert columns.shape == (2, 0)
    torch.testing.assert_close(rows, torch.outer(rows.new_tensor(RATES), gradient.square()))
    assert found.columns is found.rows
    torch.testing.assert_close(found.scale().flatten(1), (rows + 1e-9).rsqrt())


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_equivariant_in_every_part_of_a_parameter(described):
    gradient = draw(described, 0)
    permuted = permute(described, gradient, 0)

    def scales(tensors):
        result = {}
        for name, tensor in tensors.items():
            layout = described.layout(name)
            factors = split_factors(*update_factors(*state(layout), tensor, layout, RATES), layout)
            arrays = [
                part.scale()[0].expand(b.shape)
                for part, b in zip(factors, layout.bundles, strict=True)
            ]
            result[name] = layout.assemble(arrays, tensor)
        return result

    torch.testing.assert_close(scales(permuted), permute(described, scales(gradient), 0))


def test_an_empty_parameter_has_no_factors():
    layout = Layout("w", (0, 3), ())
    rows, columns = update_factors(*state(layout), torch.zeros(0, 3), layout, RATES)
    assert rows.shape == columns.shape == (2, 0)
    assert split_factors(rows, columns, layout) == []


def test_zero_gradients_have_finite_scales_and_derivatives():
    part = bundle("w", S, ["h", "x"], "oi")
    layout = Layout("w", part.sizes, (part,))
    rates = torch.tensor(RATES, requires_grad=True)
    rows, columns = update_factors(
        *state(layout, torch.float32), torch.zeros(6, 2), layout, rates.unbind()
    )
    scale = split_factors(rows, columns, layout)[0].scale()
    assert scale.isfinite().all()
    (derivative,) = torch.autograd.grad(scale.sum(), rates)
    assert derivative.isfinite().all()
