import pytest

from ngopt.features.neurons import Ends, ends
from tests.hand_built import EXAMPLES, bundle, spaces

HIDDEN, INPUT = ("h",), ("x",)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_ends_are_sets_of_neurons(example):
    graph = example()[1]
    for part in graph.bundles:
        group, outputs, inputs, _ = part.shape
        out, into = ends(part)
        assert out == part.out_neurons
        assert graph.neurons(out) == group * outputs
        assert into == part.in_neurons
        assert graph.neurons(into) == (group * inputs if into else 1)


def test_an_end_with_a_free_dimension_has_no_neurons():
    known = spaces(h=4, x=3)
    assert ends(bundle("w", known, ["h", 2, "x"], "ooi")) == Ends((), INPUT)
    assert ends(bundle("w", known, ["h", 1, "x"], "ooi")) == Ends(HIDDEN, INPUT)
