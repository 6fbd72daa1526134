import itertools

import pytest

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.picture import place
from tests.hand_built import EXAMPLES, graph, layout, spaces

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
GRAPHS["per_tensor"] = NeuralGraph.per_tensor({"w": (5, 3), "conv": (4, 3, 2), "b": (5,), "s": ()})
ALL = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def by_title(picture):
    return {" ".join(box.title): box for box in picture.boxes}


def columns(box):
    return set(range(box.first, box.last + 1))


@ALL
def test_every_parameter_stands_somewhere(described):
    picture = place(described)
    texts = [line for arrow in picture.arrows for line in arrow.lines]
    texts += [line for box in picture.boxes for lines in box.notes.values() for line in lines]
    for name in described.parameters:
        assert name in texts


@ALL
def test_boxes_of_one_row_share_no_column(described):
    for a, b in itertools.combinations(place(described).boxes, 2):
        assert a.row != b.row or not columns(a) & columns(b)


@ALL
def test_rows_and_columns_do_not_touch(described):
    picture = place(described)
    for a, b in itertools.combinations(picture.boxes, 2):
        if a.row != b.row:
            assert abs(a.y - b.y) > a.half + b.half
    assert all(left < right for left, right in zip(picture.lefts, picture.rights, strict=True))
    assert all(r < left for r, left in zip(picture.rights[:-1], picture.lefts[1:], strict=True))
    assert picture.width > picture.rights[-1]


@ALL
def test_arrows_lead_from_left_to_right(described):
    for arrow in place(described).arrows:
        assert arrow.gap in columns(arrow.source)
        assert arrow.gap + 1 in columns(arrow.target)
        assert arrow.home in (arrow.source, arrow.target)


def test_mlp_is_one_row_from_left_to_right():
    picture = place(GRAPHS["mlp"])
    assert [(title, sorted(columns(box)), box.row) for title, box in by_title(picture).items()] == [
        ("x", [0], 0),
        ("h0", [1], 0),
        ("h1", [2], 0),
        ("y", [3], 0),
    ]
    assert [arrow.lines for arrow in picture.arrows] == [["0.weight"], ["2.weight"], ["4.weight"]]


def test_residual_stream_is_a_long_box_under_what_it_feeds():
    boxes = by_title(place(GRAPHS["residual_convnet"]))
    stream, inner = boxes["group x gs"], boxes["group x gi"]
    assert (stream.first, stream.last) == (1, 3)
    assert (inner.first, inner.last) == (2, 2)
    assert stream.y < inner.y
    assert stream.notes == {1: ["stem.bias"], 3: ["conv_b.bias"]}


def test_parts_of_a_parameter_share_an_arrow_where_they_lead_to_the_same_neurons():
    arrows = place(GRAPHS["attention_block"]).arrows
    fused = [arrow.lines for arrow in arrows if arrow.lines[0] == "qkv.weight"]
    assert fused == [["qkv.weight", "part 1, 2"], ["qkv.weight", "part 3"]]
    assert len({arrow.home.row for arrow in arrows if arrow.gap == 1}) == 2


def test_more_neurons_make_a_higher_box():
    s = spaces(x=8, h=4096)
    boxes = by_title(place(graph(s, [layout(s, "w", ["h", "x"], "oi")])))
    assert boxes["x"].half < boxes["h"].half < 10 * boxes["x"].half


def test_long_names_break_where_they_can():
    name = "encoder.layers.0.self_attn.in_proj_weight"
    picture = place(NeuralGraph.per_tensor({name: (2, 3)}))
    (arrow,) = picture.arrows
    assert "".join(arrow.lines) == name
    assert arrow.lines == ["encoder.layers.0.", "self_attn.", "in_proj_weight"]


def test_label_stands_on_the_side_that_the_arrow_does_not_turn_to():
    s = spaces(a=2, b=3, c=4, y=5)
    items = [("w1", "b", "a"), ("w2", "c", "b"), ("w3", "y", "c"), ("w4", "y", "a")]
    layouts = [
        layout(s, name, [out, into], "oi", depth=i / 3) for i, (name, out, into) in enumerate(items)
    ]
    arrows = {arrow.lines[0]: arrow for arrow in place(graph(s, layouts)).arrows}
    assert arrows["w1"].home.y > arrows["w1"].source.y
    assert not arrows["w1"].under
    assert arrows["w4"].home.y < arrows["w4"].target.y
    assert arrows["w4"].under


def test_empty_graph_has_a_size():
    picture = place(NeuralGraph({}, {}, {}))
    assert (picture.boxes, picture.arrows) == ([], [])
    assert picture.width > 0
    assert picture.height > 0
