from meta_train.reading.relational_map import draw_map
from tests.meta_train.reading.graphs_with_errors import POINTS


def test_the_map_has_a_dot_for_each_graph():
    figure = draw_map(POINTS)
    dots = [c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets()) == 1]
    assert sorted(tuple(offset[0]) for offset in dots) == sorted(
        (p.clustering, p.path_length) for p in POINTS
    )
    (low, high), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert all(low < p.clustering < high and bottom < p.path_length < top for p in POINTS)
