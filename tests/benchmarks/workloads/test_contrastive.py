import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.contrastive import nt_xent, views


def test_nt_xent_finds_the_other_view(generator):
    features = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    similar = (features @ features.T / 0.5).exp()
    wanted = [
        -torch.log(similar[i, (i + 3) % 6] / (similar[i].sum() - similar[i, i])) for i in range(6)
    ]
    assert nt_xent(features, 0.5).item() == pytest.approx(sum(wanted).item() / 6)


def test_views_keep_what_is_constant_up_to_brightness(generator):
    found = views(torch.ones(8, 1, 6, 6), generator)
    assert found.flatten(1).std(1).max() < 1e-5
    assert found.mean((1, 2, 3)).std() > 0.1
