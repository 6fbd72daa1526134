import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ngopt.errors import RuleError
from ngopt.graph.incidence import Incidence, incidences
from ngopt.graph.nodes import nodes_of
from ngopt.nn.relational_transformer import TransformerLayer
from ngopt.rules.ff import FF
from ngopt.rules.ng_t import NGT
from tests.hand_built import graph, layout, spaces
from tests.nn.attention_by_loops import attention_by_loops
from tests.rules.rule_inputs import GRAPHS, MLP, randomize, relative_error, warm

WIDTH, EDGE = 6, 4


def layer():
    return randomize(TransformerLayer(WIDTH, EDGE, 2, torch.Generator())).double()


def states(described):
    """States of nodes and edges, and the ends of the edges."""
    nodes = nodes_of(described)
    ends = incidences(described, nodes, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    edges = [noise(*target.shape, source.shape[1], EDGE) for target, source in ends]
    return noise(nodes.count, WIDTH), edges, ends


def layer_by_loops(layer, x, edges, ends):
    """The same by the formulas, edge by edge."""
    (node_norm, node_norm_2), (edge_norm, edge_norm_2) = layer.node_norms, layer.edge_norms
    relations = [(end.target, end.source, e) for e, end in zip(edges, ends, strict=True)]
    relations += [(i, j, layer.reverse(e).transpose(1, 2)) for j, i, e in relations]
    x = node_norm(x + attention_by_loops(layer.attention, x, relations))
    x = torch.stack([node_norm_2(row + layer.node_mlp(row)) for row in x])
    results = []
    for e, (target, source) in zip(edges, ends, strict=True):
        result = torch.empty_like(e)
        for g, o, i in torch.cartesian_prod(*map(torch.arange, e.shape[:3])).tolist():
            j, k = x[target[g, o]], x[source[g, i]]
            first = layer.edge_hidden
            hidden = first.pair(e[g, o, i]) + first.target(j) + first.source(k)
            new = edge_norm(e[g, o, i] + layer.edge_output(hidden * torch.sigmoid(hidden)))
            result[g, o, i] = edge_norm_2(new + layer.edge_mlp(new))
        results.append(result)
    return x, results


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_layer_equals_loops(described):
    with torch.no_grad():
        nodes, edges = layer()(*states(described))
        expected_nodes, expected_edges = layer_by_loops(layer(), *states(described))
    torch.testing.assert_close(nodes, expected_nodes)
    torch.testing.assert_close(edges, expected_edges)


def test_layer_recognises_direction():
    x, (edge, *_), (end, *_) = states(MLP)
    with torch.no_grad():
        nodes, (there,) = layer()(x, [edge], [end])
        turned = Incidence(end.source, end.target)
        other_nodes, (back,) = layer()(x, [edge.transpose(1, 2)], [turned])
    assert (nodes - other_nodes).abs().max() > 1e-2
    assert (there - back.transpose(1, 2)).abs().max() > 1e-2


def changed_by(rule, name, place):
    """Which entries of the updates change with one weight."""
    parameters, gradients, state = warm(rule, MLP)
    moved = {**parameters, name: parameters[name].index_put(place, torch.tensor(5.0).double())}
    with torch.no_grad():
        before, _ = rule(parameters, gradients, state, MLP)
        after, _ = rule(moved, gradients, state, MLP)
    return {name: before[name] != after[name] for name in before}


def test_one_layer_reaches_only_the_edges_of_both_neurons():
    rule = randomize(NGT(8, 6, layers=1, heads=2, recipe="paper"))
    changed = changed_by(rule, "0.weight", (torch.tensor(2), torch.tensor(3)))
    expected = {name: torch.zeros_like(mask) for name, mask in changed.items()}
    expected["0.weight"][2] = True
    expected["0.weight"][:, 3] = True
    expected["0.bias"][2] = True
    expected["2.weight"][:, 2] = True
    for name, mask in expected.items():
        assert torch.equal(changed[name], mask), name


@pytest.mark.parametrize(("layers", "behind"), [(1, "2.bias"), (2, "4.bias"), (3, None)])
def test_each_layer_reaches_further(layers, behind):
    rule = randomize(NGT(8, 6, layers, heads=2, recipe="paper"))
    changed = changed_by(rule, "0.weight", (torch.tensor(2), torch.tensor(3)))
    names = list(changed)
    untouched = {name for name in names if not changed[name].any()}
    assert untouched == set(names[names.index(behind) :] if behind else ())


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_fresh_rule_leaves_the_step_to_the_safe_recipe(described):
    ours, plain = NGT(8, 6, heads=2), FF(hidden=3)
    inputs = warm(plain, described)
    (update, _), (expected, _) = ours(*inputs, described), plain(*inputs, described)
    assert relative_error(update, expected) < 1e-12


class Largest(TorchDispatchMode):
    """Remembers the most entries of any tensor computed."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.entries = max(self.entries, *sizes, 0)
        return result


def test_no_tensor_has_all_pairs_of_neurons():
    width, depth = 4, 30
    s = spaces(**{f"h{number}": width for number in range(depth + 1)})
    layouts = [layout(s, f"w{n}", [f"h{n + 1}", f"h{n}"], "oi") for n in range(depth)]
    described = graph(s, layouts)
    rule = randomize(NGT(8, 6, layers=1, heads=2, recipe="paper"))
    inputs = warm(rule, described, steps=0)
    with Largest() as largest, torch.no_grad():
        rule(*inputs, described)
    neurons = (depth + 1) * width
    assert largest.entries < neurons**2 / 5


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(RuleError, match="width=8 and heads=3"):
        NGT(width=8, heads=3)


@pytest.mark.parametrize("name", ["width", "edge_width", "layers", "heads", "head_layers"])
def test_sizes_that_make_no_sense(name):
    with pytest.raises(RuleError, match=f"NGT .*{name}=0"):
        NGT(**{name: 0})
