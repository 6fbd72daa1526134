import itertools
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ngopt.graph.draw import HIDDEN, PINNED, _curve, draw
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.picture import place
from tests.hand_built import EXAMPLES, graph, layout, spaces


def recurrent():
    s = spaces(x=784, hidden=512, c=128, y=10)
    return graph(
        s,
        [
            layout(s, "rnn.weight_ih", ["hidden", "x"], "oi", depth=0.0),
            layout(s, "rnn.weight_hh", ["hidden", "hidden"], "oi", depth=0.0),
            layout(s, "rnn.gate", ["hidden", "x"], "oi", depth=0.0),
            layout(s, "rnn.bias", ["hidden"], "o", depth=0.0),
            layout(s, "down.conv.weight", ["c", "hidden", 3], "oit", depth=0.4),
            layout(s, "down.shortcut.weight", ["c", "hidden", 1], "oit", depth=0.4),
            layout(s, "classifier.transform.dense.weight", ["y", "c"], "oi", depth=1.0),
            layout(s, "from_input.weight", ["y", "x"], "oi", depth=1.0),
        ],
    )


GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
GRAPHS["recurrent"] = recurrent()
GRAPHS["per_tensor"] = NeuralGraph.per_tensor(
    {"encoder.layers.0.in_proj_weight": (5, 3), "encoder.bias": (5,), "s": (), "e": (0, 2)}
)
GRAPHS["empty"] = NeuralGraph({}, {}, {})
ALL = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def text_boxes(ax):
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    return {text: text.get_window_extent(renderer) for text in ax.texts}


@ALL
def test_no_text_covers_another(described):
    for (a, box), (b, other) in itertools.combinations(text_boxes(draw(described)).items(), 2):
        assert not box.overlaps(other), (a.get_text(), b.get_text())


@ALL
def test_no_text_leaves_the_picture(described):
    ax = draw(described)
    for text, box in text_boxes(ax).items():
        inside = ax.figure.bbox.contains(box.x0, box.y0), ax.figure.bbox.contains(box.x1, box.y1)
        assert inside == (True, True), text.get_text()


@ALL
def test_no_label_stands_on_a_box_of_other_neurons(described):
    ax = draw(described)
    boxes = [p.get_window_extent() for p in ax.patches if isinstance(p, FancyBboxPatch)]
    for text, extent in text_boxes(ax).items():
        covered = [box for box in boxes if box.overlaps(extent)]
        within = text.get_text().replace(" x ", "").isdigit()
        assert len(covered) == int(within), text.get_text()


@ALL
def test_hidden_neurons_are_blue_and_pinned_ones_grey(described):
    ax = draw(described)
    colours = [to_hex(p.get_facecolor()) for p in ax.patches if isinstance(p, FancyBboxPatch)]
    used = {b.out_neurons for b in described.bundles} | {b.in_neurons for b in described.bundles}
    hidden = {s.name for s in described.hidden}
    expected = len({frozenset(names) for names in used if hidden & set(names)})
    assert colours.count(HIDDEN) == expected
    assert set(colours) <= {HIDDEN, PINNED}


def test_arrows_are_the_weights():
    ax = draw(GRAPHS["attention_block"])
    assert sum(isinstance(p, FancyArrowPatch) for p in ax.patches) == 6
    texts = [text.get_text() for text in ax.texts]
    for text in ("qkv.weight\npart 1, 2", "qkv.weight\npart 3", "norm.weight\nnorm.bias", "4 x 3"):
        assert text in texts


def test_draws_into_given_axes():
    ax = Figure(figsize=(9, 3)).add_subplot()
    assert draw(GRAPHS["mlp"], ax) is ax
    assert len(ax.patches) == 4 + 3


def test_picture_is_saved(tmp_path):
    path = tmp_path / "graph.png"
    draw(GRAPHS["mlp"]).figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_missing_matplotlib_is_told_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib.*\n.*pip install \"ngopt\[draw\]\""):
        draw(GRAPHS["mlp"])


@ALL
def test_arrows_lead_from_box_to_box(described):
    picture = place(described)
    for arrow in picture.arrows:
        ends = (arrow.source, arrow.target)
        curve = _curve(arrow, picture.rights[arrow.gap], picture.lefts[arrow.gap + 1])
        for (x, y), bend, box in zip(curve[::3], curve[1:3], ends, strict=True):
            assert (x, y) != bend
            assert picture.lefts[box.first] <= x <= picture.rights[box.last]
            assert abs(y - box.y) == pytest.approx(box.half if box.spans(arrow.gap) else 0)
