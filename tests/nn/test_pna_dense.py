import torch

from ngopt.nn import pna_dense
from ngopt.nn.affine import Affine
from ngopt.nn.pna import AGGREGATORS, Messages, Stream, deviation
from tests.rules.rule_inputs import randomize

WIDTH, NODES = 3, 9


def messages_into():
    """Two streams of several groups, into nodes 0 to 5 and 2 to 4; each node's messages."""
    generator = torch.Generator()
    near, far = torch.randn(2, NODES, WIDTH).double()
    streams = [
        Stream(
            randomize(Affine(WIDTH, 2 * WIDTH, generator), seed).double(),
            torch.randn(*into.shape, 4, WIDTH).double(),
            into,
            torch.randint(NODES, (len(into), 4)),
        )
        for seed, into in enumerate([torch.randperm(6).view(2, 3), torch.tensor([[4, 2, 3]])])
    ]
    inbox = [[] for _ in range(NODES)]
    for stream in streams:
        group, into, out_of, _ = stream.edges.shape
        for g, i, j in torch.cartesian_prod(*map(torch.arange, (group, into, out_of))).tolist():
            node = stream.into[g, i]
            scale, shift = stream.modulation(stream.edges[g, i, j]).chunk(2)
            inbox[node].append(scale * (near[node] + far[stream.out_of[g, j]]) + shift)
    degree = torch.tensor([len(box) for box in inbox]).double()
    return Messages(streams, near, far, degree), inbox


def test_each_aggregator_sees_all_that_enters_a_node():
    messages, inbox = messages_into()
    found = pna_dense.aggregate(messages, AGGREGATORS)
    assert {len(box) for box in inbox} == {0, 4, 8}
    for row, box in zip(found, inbox, strict=True):
        if not box:
            assert not row.any()
            continue
        box = torch.stack(box)
        std = deviation(box.var(0, correction=0))
        expected = torch.cat([box.mean(0), box.amin(0), box.amax(0), std])
        torch.testing.assert_close(row, expected, rtol=1e-12, atol=1e-12)


def test_aggregators_come_in_the_order_asked_for():
    messages, _ = messages_into()
    mean, low, high, std = pna_dense.aggregate(messages, AGGREGATORS).chunk(4, 1)
    found = pna_dense.aggregate(messages, ["std", "max", "mean"])
    assert torch.equal(found, torch.cat([std, high, mean], 1))
    assert not torch.equal(low, high)


def test_the_mean_alone_takes_another_way_to_the_same():
    messages, _ = messages_into()
    mean = pna_dense.aggregate(messages, AGGREGATORS)[:, :WIDTH]
    found = pna_dense.aggregate(messages, ["mean"])
    torch.testing.assert_close(found, mean, rtol=1e-12, atol=1e-12)


def test_small_deviations_of_large_messages_are_exact_in_single_precision():
    modulation = Affine(1, 2)  # zeros: the shift is all there is, once its bias is set
    edges = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 3, 1)
    with torch.no_grad():
        modulation.weight.copy_(torch.tensor([[0.0, 1.0]]))
        modulation.bias.copy_(torch.tensor([0.0, 4096.0]))
    into, out_of = torch.tensor([[0]]), torch.tensor([[1, 1, 1]])
    zeros = torch.zeros(2, 1)
    messages = Messages(
        [Stream(modulation, edges, into, out_of)], zeros, zeros, torch.tensor([3, 0])
    )
    found = pna_dense.aggregate(messages, ["std"])[0]
    torch.testing.assert_close(found, deviation(torch.tensor([2 / 3])))


def test_equal_messages_have_finite_derivatives():
    messages, _ = messages_into()
    streams = [s._replace(edges=torch.zeros_like(s.edges)) for s in messages.streams]
    near = torch.zeros_like(messages.near).requires_grad_()
    found = pna_dense.aggregate(Messages(streams, near, near, messages.degree), AGGREGATORS)
    theta = [parameter for s in streams for parameter in s.modulation.parameters()]
    for derivative in torch.autograd.grad(found.sum(), [near, *theta]):
        assert derivative.isfinite().all()
