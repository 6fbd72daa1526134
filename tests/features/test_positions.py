import math

import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.bundle_features import STRUCTURE, STRUCTURE_PARTS, structure
from ngopt.features.positions import (
    FREQUENCIES,
    NODE_POSITIONS,
    POSITIONS,
    TAP_POSITIONS,
    Positions,
)
from ngopt.graph.nodes import nodes_of
from tests.hand_built import EXAMPLES, bundle, spaces

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
LIKE = torch.zeros((), dtype=torch.float64)
S = spaces(h=2)


def test_all_are_shown_unless_named_otherwise():
    assert Positions().names == POSITIONS
    assert Positions(["taps", "depth"]).names == ("depth", "taps")
    assert Positions([]).names == ()


@pytest.mark.parametrize("names", [["depht"], ["depth", "index"], "depth"], ids=str)
def test_unknown_names(names):
    with pytest.raises(RuleError, match=r"(?s)no positional features '.*Use any of: depth, fans"):
        Positions(names)


@every_graph
def test_structure_is_shown_or_zero(described):
    for layout in described.parameters.values():
        for part in layout.bundles:
            whole = structure(described, layout, part)
            assert Positions().structure(described, layout, part) == whole
            assert Positions([]).structure(described, layout, part) == [0.0] * STRUCTURE
            together = [0.0] * STRUCTURE
            for name in STRUCTURE_PARTS:
                shown = Positions([name]).structure(described, layout, part)
                together = [a + b for a, b in zip(together, shown, strict=True)]
            assert together == whole


@every_graph
def test_nodes_tell_of_their_set(described):
    nodes = nodes_of(described)
    rows = Positions().nodes(nodes, LIKE)
    assert rows.shape == (nodes.count, NODE_POSITIONS)
    assert rows.dtype == LIKE.dtype
    for item in nodes.sets:
        waves = [
            wave(math.pi * 2**k * item.depth)
            for wave in (math.sin, math.cos)
            for k in range(FREQUENCIES)
        ]
        fans = [math.log(1 + item.fan_in) / 10, math.log(1 + item.fan_out) / 10]
        pinned = float(item.pinned)
        ends = [pinned, pinned * (item.fan_in == 0), pinned * (item.fan_out == 0)]
        expected = torch.tensor([*waves, *fans, *ends, float(not item.spaces)]).double()
        for row in rows[item.start : item.start + item.size]:
            torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-6)


def test_nodes_of_inputs_and_outputs():
    nodes = nodes_of(GRAPHS["mlp"])
    rows = Positions(["ends"]).nodes(nodes, LIKE)
    flags = {item.spaces: rows[item.start, -4:-1].tolist() for item in nodes.sets if item.spaces}
    assert flags == {("x",): [1, 1, 0], ("h0",): [0, 0, 0], ("h1",): [0, 0, 0], ("y",): [1, 0, 1]}


@pytest.mark.parametrize("name", ["depth", "fans", "ends", "axes"])
def test_positions_of_nodes_can_be_switched_one_by_one(name):
    nodes = nodes_of(GRAPHS["mlp"])
    whole = Positions().nodes(nodes, LIKE)
    only = Positions([name]).nodes(nodes, LIKE)
    without = Positions([n for n in POSITIONS if n != name]).nodes(nodes, LIKE)
    assert only.any()
    assert torch.equal(only + without, whole)
    assert not (only.any(0) & without.any(0)).any()


def test_taps_are_coordinates_along_the_last_two_dimensions_of_the_kernel():
    part = bundle("w", S, ["h", "h", 3, 2, 5], "oittt")
    taps = Positions().taps(part, LIKE).view(3, 2, 5, TAP_POSITIONS)
    for depth in range(3):
        for row in range(2):
            for column in range(5):
                expected = [-1 + column / 2, -1 + 2 * row]
                assert taps[depth, row, column].tolist() == pytest.approx(expected)


def test_taps_are_in_the_order_of_the_array():
    part = bundle("w", S, [4, "h", 3, "h"], "toti")
    taps = Positions().taps(part, LIKE)
    given = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 3, 2)
    along_first = part.view(given)[0, 0, 0]
    torch.testing.assert_close(taps[:, 1], (along_first * 2 / 3 - 1).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factors", [["h"], ["h", "h"], ["h", "h", 1], ["h", "h", 1, 1]], ids=len)
def test_lone_taps_stand_in_the_middle(factors):
    part = bundle("w", S, factors, "oitt"[: len(factors)])
    assert Positions().taps(part, LIKE).tolist() == [[0.0, 0.0]]


def test_taps_can_be_switched_off():
    part = bundle("w", S, ["h", "h", 3], "oit")
    off = Positions([name for name in POSITIONS if name != "taps"])
    assert Positions(["taps"]).taps(part, LIKE).any()
    assert off.taps(part, LIKE).tolist() == [[0.0, 0.0]] * 3
