import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.moe import Mixture
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize("top", [1, 2, 4])
def test_each_token_is_given_its_best_experts(top):
    mixture, x = Mixture(8, 6, 4, top, "gelu"), torch.randn(3, 5, 8)
    shares, gates = mixture.router(x).softmax(-1), mixture.gates(x)
    assert ((gates > 0).sum(-1) == top).all()
    best = shares.argsort(-1, descending=True)[..., :top]
    assert (gates.take_along_dim(best, -1) > 0).all()
    if top == 1:
        torch.testing.assert_close(gates.amax(-1), shares.amax(-1))
    else:
        torch.testing.assert_close(gates.sum(-1), torch.ones(3, 5))


def test_outputs_are_those_of_the_experts_weighted_by_the_gates():
    mixture, x = Mixture(8, 6, 3, 2, "relu"), torch.randn(7, 8)
    gates = mixture.gates(x)
    for token, gate, output in zip(x, gates, mixture(x), strict=True):
        chosen = [(g, mixture.experts[n](token)) for n, g in enumerate(gate) if g > 0]
        assert len(chosen) == 2
        torch.testing.assert_close(output, sum(g * out for g, out in chosen))


def test_experts_that_are_not_chosen_learn_nothing():
    mixture = Mixture(8, 6, 3, 1, "relu")
    token = torch.randn(1, 8)
    mixture(token).sum().backward()
    chosen = int(mixture.gates(token).argmax())
    for number, expert in enumerate(mixture.experts):
        moved = any(parameter.grad.any() for parameter in expert.parameters())
        assert moved == (number == chosen)
    assert mixture.router.weight.grad.any()


def test_every_layer_has_a_mixture():
    module = task_of("moe:width=8,depth=2,heads=2,experts=3,top=1,hidden=6").module
    mixtures = [m for m in module.modules() if isinstance(m, Mixture)]
    assert [len(mixture.experts) for mixture in mixtures] == [3, 3]
    assert mixtures[0].experts[0][0].weight.shape == (6, 8)


@pytest.mark.parametrize("top", [0, 4])
def test_too_few_experts(top):
    with pytest.raises(MetaTrainError, match=f"best {top} of 3 expert"):
        task_of(f"moe:experts=3,top={top}")
