import torch

from benchmarks.workloads.char_gpt import GPT, WIDTH
from benchmarks.workloads.experts import CHOSEN, EXPERTS, Experts, with_experts


def test_each_token_is_the_weighted_sum_of_its_two_experts():
    experts = Experts(6)
    x = torch.randn(3, 5, 6)
    found = experts(x)
    chances = experts.router(x).softmax(-1)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
        token, chance = x[tuple(place)], chances[tuple(place)]
        best = chance.argsort(descending=True)[:CHOSEN]
        outputs = torch.stack([experts.experts[i](token) for i in best])
        wanted = (chance[best] / chance[best].sum()) @ outputs
        torch.testing.assert_close(found[tuple(place)], wanted)


def test_an_expert_without_tokens_has_no_gradient():
    experts = Experts(6)
    experts(torch.randn(1, 6)).sum().backward()
    used = [expert.up.weight.grad is not None for expert in experts.experts]
    assert sum(used) == CHOSEN


def test_experts_in_a_gpt_get_gradients():
    model = with_experts(GPT(vocabulary=11, length=32, layers=2, heads=2, width=WIDTH))
    kept, replaced = (block.perceptron for block in model.blocks)
    assert not isinstance(kept, Experts)
    model(torch.randint(11, (8, 32))).logsumexp(-1).sum().backward()
    assert replaced.router.weight.grad.any()
    for expert in replaced.experts:
        assert expert.up.weight.grad.any()
        assert expert.down.weight.grad.any()


def test_balance_is_one_for_an_even_choice_and_more_for_an_uneven_one():
    experts = Experts(EXPERTS)
    with torch.no_grad():
        experts.router.weight.copy_(1e-3 * torch.eye(EXPERTS))
        steps = torch.arange(EXPERTS)
        even = torch.eye(EXPERTS) + 0.5 * torch.eye(EXPERTS)[(steps + 1) % EXPERTS]
        experts(even)
        torch.testing.assert_close(experts.unbalance, torch.ones(()))
        experts.router.weight.mul_(1e4)
        experts(even[:1].expand(9, -1))
        assert experts.unbalance > 3
