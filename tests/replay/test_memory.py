from hypothesis import given
from hypothesis import strategies as st

from ngopt.replay.memory import ALIGNMENT, Life, placed

times = st.integers(0, 12)
life = st.builds(
    lambda size, one, other: Life(size, min(one, other), max(one, other)),
    st.integers(0, 1000),
    times,
    times,
)


@given(st.lists(life, max_size=12))
def test_nothing_is_overwritten_while_it_is_needed(lives):
    numbered = dict(enumerate(lives))
    offsets, total = placed(numbered)
    assert offsets.keys() == numbered.keys()
    for number, own in numbered.items():
        start, end = offsets[number], offsets[number] + own.size
        assert start % ALIGNMENT == 0
        assert end <= total
        for other in range(number):
            theirs = numbered[other]
            apart = offsets[other] + theirs.size <= start or end <= offsets[other]
            assert apart or own.last < theirs.first or theirs.last < own.first


def test_memory_is_used_again():
    chain = {n: Life(1000, n, n + 1) for n in range(50)}
    assert placed(chain)[1] == 2 * 1024
    assert placed({n: Life(64, n, 50) for n in range(50)})[1] == 50 * 64
