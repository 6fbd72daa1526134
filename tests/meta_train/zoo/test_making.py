import io

import pytest

from meta_train.zoo import making
from tests.meta_train.zoo.small_zoo import chunk_of, make, writer


@pytest.mark.parametrize(("each", "networks", "total"), [(2, None, 6), (4, 11, 11)])
def test_the_bar_counts_networks(tmp_path, monkeypatch, each, networks, total):
    bars = []

    def bar(**options):
        bars.append(real(**options, file=io.StringIO()))
        return bars[-1]

    real = making.tqdm
    monkeypatch.setattr(making, "tqdm", bar)
    writer(tmp_path).write(1, chunk_of(1))
    make(tmp_path, each=each, networks=networks)
    (shown,) = bars
    assert (shown.initial, shown.total, shown.n) == (total - 2 * each, total, total)


def test_chunks_that_are_there_are_not_made_again(tmp_path):
    writer(tmp_path).write(1, chunk_of(1))
    made = []

    def make_one(number):
        made.append(number)
        return chunk_of(number)

    make(tmp_path, work=make_one)
    assert sorted(made) == [0, 2]
