import pytest
import torch

from ngopt.nn.sets import QUANTILES, set_statistics


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 100])
def test_statistics_are_torchs(count):
    x = torch.randn(count, 3, dtype=torch.float64)
    places = torch.tensor(QUANTILES, dtype=torch.float64)
    expected = [x.mean(0), x.var(0, correction=0), *x.quantile(places, 0)]
    torch.testing.assert_close(set_statistics(x), torch.cat(expected))


def test_ties_and_order_make_no_difference():
    x = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0]])
    statistics = set_statistics(x)
    torch.testing.assert_close(
        statistics, torch.tensor([0.6, 0.24, 0.0, 0.0, 1.0, 1.0, 1.0]), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(set_statistics(x.flip(0)), statistics, rtol=1e-6, atol=0)
