import pytest

from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.errors import MetaTrainError


@pytest.mark.parametrize(
    "wrong",
    [{"scalars": 0}, {"inner_steps": 0}, {"problems": 0}, {"histograms": -1}, {"every": -1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_counts_that_make_no_sense_are_refused(wrong):
    with pytest.raises(MetaTrainError, match="Use at least 1 for scalars"):
        BoardOptions(**wrong)


def test_what_costs_time_can_be_switched_off():
    assert Config(board=BoardOptions(histograms=0, every=0)).board.opponents == ("adam",)
