import pytest

from ngopt.errors import RuleError, check_whole


def test_sizes_of_at_least_one():
    check_whole(RuleError, "NGT", width=1, heads=32)


@pytest.mark.parametrize("size", [0, -2, 1.5, 8.0, True, "8", None])
def test_others_are_refused(size):
    with pytest.raises(RuleError, match=f"NGT .*heads={size!r}") as error:
        check_whole(RuleError, "NGT", width=4, heads=size)
    assert "at least 1" in str(error.value)
