"""What processes hold of matrices whose rows they share."""

import numpy as np
import pytest
import torch

from ngopt.features.neurons import NOWHERE
from ngopt.rules.buckets.bucket import Member
from ngopt.rules.buckets.memory_layout import placement_of
from ngopt.rules.buckets.sharded_matrices import Exchange, LocalPart, owners
from ngopt.rules.shards import Shards, contiguous
from tests.hand_built import graph, layout, spaces

S = spaces(x=6, h=5)
LAYOUTS = {
    "rows": (["h", "x"], "oi"),
    "columns": (["x", "h"], "io"),
    "vector": (["h"], "o"),
    "one output": ([1, "x"], "oi"),
    "convolution": (["h", "x", 3, 2], "oitt"),
}


def shards(rank, size, length):
    return Shards(None, rank, size, (("w", length),))


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_entry_is_held_once(name, size):
    described = graph(S, [layout(S, "w", *LAYOUTS[name])]).layout("w")
    strides = contiguous(described.shape)
    place = placement_of(Member("w", 0, described, None, False, NOWHERE), strides)
    tensor = torch.arange(np.prod(described.shape)).view(described.shape)
    sizes = np.array([[*place.matrix_layout.sides, place.pitch]] * len(place.offsets))
    offset, stride = np.array(place.offsets), np.full(len(place.offsets), strides[0])
    whole = LocalPart.whole(sizes, offset)
    assert LocalPart.divides(sizes, offset, stride)
    found = torch.full((len(offset), *place.matrix_layout.sides), -1)
    for rank in range(size):
        (first,), (last,) = shards(rank, size, described.shape[0]).rows(rank)
        shard = tensor[first:last].flatten().clone()
        local = whole.within(sizes[:, 2], stride, np.array([first]), np.array([last]))
        for n, (row, column, rows, columns, begin) in enumerate(zip(*local, strict=True)):
            part = shard.as_strided((rows, columns), (sizes[n, 2], 1), int(begin))
            here = found[n, row : row + rows, column : column + columns]
            assert (here == -1).all()
            here.copy_(part)
    expected = tensor.flatten().as_strided(found.shape, (0, place.pitch, 1), place.offsets[0])
    assert torch.equal(found[:1], expected[:1])
    assert (found >= 0).all()


def test_rows_that_span_rows_of_the_tensor_are_no_parts():
    sizes = np.array([[2, 6, 6]])
    assert not LocalPart.divides(sizes, np.array([0]), np.array([4]))
    assert LocalPart.divides(sizes, np.array([0]), np.array([12]))


@pytest.mark.parametrize("entries", [[5], [1, 1, 1], [9, 1, 1, 1], [0, 0, 3, 0]])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_owners_come_in_order(entries, processes):
    found = owners(np.array(entries), processes)
    assert (np.diff(found) >= 0).all()
    assert set(found) <= set(range(processes))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_matrices_come_together_and_go_back(size, monkeypatch):
    generator = np.random.default_rng(0)
    entries = generator.integers(0, 4, (size, 5))
    owner = owners(entries.sum(0), size)
    local = [torch.rand(int(n)) for n in entries.sum(1)]
    exchanges = [
        Exchange(shards(rank, size, 1), entries, owner, torch.device("cpu")) for rank in range(size)
    ]

    def exchanged(inputs, sent):
        """What each process receives, given what all send."""
        parts = [torch.split(each, counts) for each, counts in zip(inputs, sent, strict=True)]
        return [torch.cat([parts[source][to] for source in range(size)]) for to in range(size)]

    arrived = exchanged(local, [e._sent for e in exchanges])
    calls = iter(arrived)
    monkeypatch.setattr(Shards, "exchange", lambda *_: next(calls))
    owned = [e.gather(h) for e, h in zip(exchanges, local, strict=True)]
    segments = [torch.split(h, entries[rank].tolist()) for rank, h in enumerate(local)]
    for rank in range(size):
        mine = [n for n in range(5) if owner[n] == rank]
        expected = [segments[source][n] for n in mine for source in range(size)]
        assert torch.equal(owned[rank], torch.cat([torch.zeros(0), *expected]))
    given = []
    monkeypatch.setattr(Shards, "exchange", lambda _, tensor, *counts: given.append(tensor))
    for exchange, each in zip(exchanges, owned, strict=True):
        exchange.scatter(each)
    back = exchanged(given, [e._received for e in exchanges])
    assert all(map(torch.equal, back, local))
