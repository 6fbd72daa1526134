import itertools
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ngopt.graph.draw import CONTINUED, HIDDEN, PINNED, draw
from ngopt.graph.neural_graph import NeuralGraph
from tests.hand_built import EXAMPLES, graph, layout, spaces


def blocks(number, width=lambda number: 16):
    """A residual stream with blocks of two layers each."""
    s = spaces(x=4, stream=8, y=3, **{f"inner{n}": width(n) for n in range(number)})
    layouts = [layout(s, "first.weight", ["stream", "x"], "oi", depth=0.0)]
    for n in range(number):
        depth = (n + 1) / (number + 1)
        layouts += [
            layout(s, f"blocks.{n}.up.weight", [f"inner{n}", "stream"], "oi", depth=depth),
            layout(s, f"blocks.{n}.norm.weight", [f"inner{n}"], "o", depth=depth + 0.01),
            layout(s, f"blocks.{n}.norm.bias", [f"inner{n}"], "o", depth=depth + 0.01),
            layout(s, f"blocks.{n}.down.weight", ["stream", f"inner{n}"], "oi", depth=depth + 0.02),
        ]
    return graph(s, [*layouts, layout(s, "last.weight", ["y", "stream"], "oi", depth=1.0)])


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
GRAPHS["repeated"] = blocks(9)
GRAPHS["wide"] = blocks(9, width=lambda number: number + 2)
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
    boxes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    titles = [text for text in ax.texts if text.get_weight() == "bold"]
    for box in boxes:
        x0, x1, top = box.get_x(), box.get_x() + box.get_width(), box.get_y() + box.get_height()
        (title,) = (
            text.get_text().removeprefix(f"{CONTINUED} ").replace(".\n", ".").replace("\n", " ")
            for text in titles
            if x0 < text.get_position()[0] < x1 and 0 < text.get_position()[1] - top < 0.1
        )
        spaces_ = [described.spaces[name] for name in title.split(" x ") if name[0] != "("]
        pinned = all(space.pinned for space in spaces_)
        assert to_hex(box.get_facecolor()) == (PINNED if pinned else HIDDEN), title


def test_arrows_are_the_weights():
    ax = draw(GRAPHS["attention_block"])
    assert sum(isinstance(p, FancyArrowPatch) for p in ax.patches) == 6
    texts = [text.get_text() for text in ax.texts]
    for text in ("qkv\npart 1, 2", "qkv\npart 3", "norm", "4 x 3"):
        assert text in texts


def arrows(ax):
    return sum(isinstance(p, FancyArrowPatch) for p in ax.patches)


def test_repeated_blocks_are_drawn_once_in_a_frame():
    ax = draw(GRAPHS["repeated"])
    assert arrows(ax) == 4
    (frame,) = (p for p in ax.patches if isinstance(p, Rectangle))
    assert frame.get_linestyle() == "--"
    texts = [text.get_text() for text in ax.texts]
    assert "blocks.0 to blocks.8, x 9" in texts
    assert "dashed frame: repeated block" in texts
    assert arrows(draw(GRAPHS["repeated"], full=True)) == 20


@pytest.mark.parametrize("name", ["wide", "repeated", "attention_block", "residual_convnet"])
def test_pictures_fit_a_screen(name):
    width, height = draw(GRAPHS[name]).figure.get_size_inches()
    assert width <= 14
    assert height <= 9


def test_what_goes_on_in_the_next_row_is_named_again():
    ax = draw(GRAPHS["wide"])
    assert arrows(ax) == 20
    texts = [text.get_text() for text in ax.texts]
    assert f"{CONTINUED} stream" in texts
    assert f"{CONTINUED} from the row above" in texts


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
