import itertools

import pytest
import torch
from torch import nn

from ngopt import trace
from ngopt.graph.blocks import collapse
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.picture_layout import place
from tests.hand_built import EXAMPLES, graph, layout, spaces

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
GRAPHS["per_tensor"] = NeuralGraph.per_tensor({"w": (5, 3), "conv": (4, 3, 2), "b": (5,), "s": ()})
GRAPHS["long"] = trace(
    nn.Sequential(*(nn.Linear(n, n + 1) for n in range(2, 40))), torch.randn(1, 2)
)
ALL = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def boxes_of(picture):
    return [box for band in picture.bands for box in band.boxes]


def arrows_of(picture):
    return [arrow for band in picture.bands for arrow in band.arrows]


def by_title(picture):
    return {" ".join(box.title): box for box in boxes_of(picture)}


def columns(box):
    return set(range(box.first, box.last + 1))


@ALL
def test_every_parameter_stands_somewhere(described):
    picture = place(described)
    texts = ["".join(arrow.lines) for arrow in arrows_of(picture)]
    texts += ["".join(lines) for box in boxes_of(picture) for lines in box.notes.values()]
    for name in described.parameters:
        module = name.rpartition(".")[0]
        assert any(name in text or (module and module in text) for text in texts), name


@ALL
def test_boxes_do_not_touch(described):
    picture = place(described)
    for band in picture.bands:
        for a, b in itertools.combinations(band.boxes, 2):
            beside = not columns(a) & columns(b)
            assert beside or abs(a.y - b.y) > a.half + b.half
        for box in band.boxes:
            assert band.bottom < box.y - box.half
            assert box.y + box.half < band.top <= picture.height
        numbers = sorted(band.lefts)
        edges = [edge for n in numbers for edge in (band.lefts[n], band.rights[n])]
        assert edges == sorted(edges)
        assert edges[-1] < picture.width


@ALL
def test_arrows_lead_from_left_to_right(described):
    for arrow in arrows_of(place(described)):
        assert arrow.gap in columns(arrow.source)
        assert arrow.gap + 1 in columns(arrow.target)


@ALL
@pytest.mark.parametrize("widest", [4.0, 8.0])
def test_bands_are_read_like_lines_of_text(described, widest):
    picture = place(described, widest=widest)
    assert len(arrows_of(picture)) == len(arrows_of(place(described, widest=1e6)))
    gaps = [arrow.gap for arrow in arrows_of(picture)]
    assert gaps == sorted(gaps)
    for above, below in itertools.pairwise(picture.bands):
        assert above.bottom >= below.top
        assert max(above.rights) == min(below.lefts)
        assert any(box.again for box in below.boxes)
    assert picture.width < widest + 1


def test_bands_are_no_longer_than_their_number_asks_for():
    picture = place(GRAPHS["long"])
    assert len(picture.bands) > 1
    longest = max(right for band in picture.bands for right in band.rights.values())
    assert len(place(GRAPHS["long"], widest=longest - 0.2).bands) > len(picture.bands)


def test_mlp_is_one_row_from_left_to_right():
    picture = place(GRAPHS["mlp"])
    assert [(title, sorted(columns(box)), box.row) for title, box in by_title(picture).items()] == [
        ("x", [0], 0),
        ("h0", [1], 0),
        ("h1", [2], 0),
        ("y", [3], 0),
    ]
    assert [arrow.lines for arrow in arrows_of(picture)] == [
        ["0.weight"],
        ["2.weight"],
        ["4.weight"],
    ]


def test_residual_stream_is_a_long_box_under_what_it_feeds():
    boxes = by_title(place(GRAPHS["residual_convnet"]))
    stream, inner = boxes["group x gs"], boxes["group x gi"]
    assert columns(inner) < columns(stream)
    assert stream.y < inner.y
    assert stream.notes == {1: ["stem.bias"], 3: ["conv_b.bias"]}


def test_frame_is_around_all_of_a_block_and_nothing_else():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 5), nn.Linear(8, 2))
    (band,) = place(*collapse(trace(model, torch.randn(1, 4, 3)))).bands
    (frame,) = band.frames
    assert frame.title == "1.layers.0 to 1.layers.4, x 5"
    inside = {a.lines[0] for a in band.arrows if frame.first <= a.gap < frame.last}
    assert inside == {"self_attn.", "linear1", "linear2"}
    outside = {a.lines[0] for a in band.arrows if not frame.first <= a.gap < frame.last}
    assert outside == {"0.weight", "2.weight"}
    for box in band.boxes:
        for column, lines in box.notes.items():
            around = frame.first <= column <= frame.last
            assert around == (lines[0] not in ("0.bias", "2.bias"))


def test_parts_of_a_parameter_share_an_arrow_where_they_lead_to_the_same_neurons():
    arrows = arrows_of(place(GRAPHS["attention_block"]))
    fused = [arrow.lines for arrow in arrows if arrow.lines[0] == "qkv"]
    assert fused == [["qkv", "part 1, 2"], ["qkv", "part 3"]]


def test_more_neurons_make_a_higher_box():
    s = spaces(x=8, h=4096)
    boxes = by_title(place(graph(s, [layout(s, "w", ["h", "x"], "oi")])))
    assert boxes["x"].half < boxes["h"].half < 10 * boxes["x"].half


def test_long_names_break_where_they_can():
    name = "encoder.layers.0.self_attn.in_proj_weight"
    (arrow,) = arrows_of(place(NeuralGraph.per_tensor({name: (2, 3)})))
    assert arrow.lines == ["encoder.layers.", "0.self_attn.", "in_proj_weight"]


def test_a_weight_is_named_by_its_module_unless_that_is_a_number():
    tensors = {"head.weight": (2, 3), "1.weight": (2, 3), "weight": (2, 3), "head.other": (2, 3)}
    arrows = arrows_of(place(NeuralGraph.per_tensor(tensors)))
    assert {line for arrow in arrows for line in arrow.lines} == {
        "head",
        "1.weight",
        "weight",
        "head.other",
    }


def test_empty_graph_has_a_size():
    picture = place(NeuralGraph({}, {}, {}))
    assert (boxes_of(picture), arrows_of(picture)) == ([], [])
    assert picture.width > 0
    assert picture.height > 0
