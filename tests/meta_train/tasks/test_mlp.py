import pytest
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ("size=8,width=16,depth=1", [64, 16, 10]),
        ("size=4,width=32,depth=3", [16, 32, 32, 32, 10]),
        ("size=4,width=32,depth=0", [16, 10]),
    ],
)
def test_sizes_of_the_layers(options, sizes):
    linear = [m for m in task_of(f"mlp:{options}").module if isinstance(m, nn.Linear)]
    assert [linear[0].in_features, *(layer.out_features for layer in linear)] == sizes


def test_an_activation_that_is_not_there():
    with pytest.raises(MetaTrainError, match="no activation `swish`"):
        family_of("mlp:activation=swish").sample(None)
