import pytest

from ngopt.graph.space import Space


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Space("h", 5), "h(5)"),
        (Space("d", 4, within=("heads",)), "d(4) within heads"),
        (Space("d", 4, within=("layer", "heads")), "d(4) within layer heads"),
        (Space("x", 3, True, reason="input"), "x(3) pinned (input)"),
    ],
)
def test_says_what_it_is(space, text):
    assert str(space) == text


def test_is_a_value():
    assert Space("h", 5) == Space("h", 5)
    assert hash(Space("h", 5)) == hash(Space("h", 5))
    assert Space("h", 5) != Space("h", 6)
    with pytest.raises(AttributeError):
        Space("h", 5).size = 6
