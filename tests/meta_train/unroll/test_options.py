import pytest

from meta_train.errors import MetaTrainError
from meta_train.unroll.options import UnrollOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1e-3},
        {"lr_spread": 0.5},
        {"weight_decay": -0.1},
        {"average": 1.0},
        {"diverged_above": 1.0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(MetaTrainError, match=rf"{next(iter(wrong))}=.* makes no sense(.|\n)*Use"):
        UnrollOptions(**wrong)


def test_the_limits_themselves_are_allowed():
    options = UnrollOptions(lr=0.0, lr_spread=1.0, weight_decay=0.0, diverged_above=1.5)
    assert options.measure == "next"
    assert not options.second_order
