"""Graphs with errors that are made up."""

from meta_train.reading.relational_scores import Point


def point(name, clustering, path_length, tests, held_out=None):
    return Point(name, 8.0, 0.1, clustering, path_length, 64, 1000, tests, held_out or tests, 1.0)


POINTS = [
    point("complete", 1.0, 1.0, (33.3, 33.5, 33.1, 33.4)),
    point("lattice", 0.65, 4.4, (32.9, 33.0, 32.8, 32.9)),
    point("small_world", 0.4, 2.4, (32.3, 32.4, 32.2, 32.3)),
    point("0", 0.3, 2.3, (32.4, 32.3, 32.3, 32.35)),
]
