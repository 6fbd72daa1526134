import pytest
import torch
from torch import nn

from benchmarks.workloads.flow import RealNVP


def test_the_density_of_a_flow_is_that_of_its_change_of_variables(generator):
    model = RealNVP(3, 8)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    x = torch.randn(2, generator=generator)

    def code(point):
        for coupling in model.couplings:
            point = coupling(point[None])[0][0].flip(0)
        return point

    jacobian = torch.autograd.functional.jacobian(code, x)
    normal = torch.distributions.Normal(0, 1).log_prob(code(x)).sum()
    wanted = normal + jacobian.det().abs().log()
    assert model(x[None]).item() == pytest.approx(wanted.item(), rel=1e-4)
