"""Encoders by name, and the network that predicts from their encodings."""

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.reading.readers import ENCODERS, Reader, encoder_of, weights
from ngopt.errors import NgoptError
from tests.meta_train.reading.tiny import Moments

RECURRENT = {"fixed_probing", "interactive_probing"}
"""Encoders of recurrent networks only."""

OF_IMAGES = sorted(set(ENCODERS) - RECURRENT - {"moments"})


@pytest.mark.parametrize("name", [*OF_IMAGES, "ng_gnn:probes=generator,count=3"])
def test_every_encoder_reads_a_zoo_of_images(zoo, name):
    networks = zoo.networks(torch.arange(5))
    encoder = encoder_of(name, networks, 0)
    encoded = encoder(networks)
    assert encoded.shape == (5, encoder.width)
    assert encoded.isfinite().all()
    assert weights(encoder) > 0


@pytest.mark.parametrize("name", ["moments", *OF_IMAGES])
def test_a_seed_draws_the_same_weights_and_leaves_the_global_ones_alone(zoo, name):
    networks = zoo.networks(torch.arange(5))
    torch.manual_seed(7)
    expected = torch.rand(())
    torch.manual_seed(7)
    one, same, other = (Reader(encoder_of(name, networks, s), 3, seed=s) for s in (1, 1, 2))
    assert torch.rand(()) == expected
    flat = [torch.cat([p.flatten() for p in r.parameters()]) for r in (one, same, other)]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])


def test_encodings_are_joined(zoo):
    networks = zoo.networks(torch.arange(5))
    joined = encoder_of("moments+moments:width=4", networks, 0)
    assert joined.width == 10
    assert torch.equal(joined(networks)[:, :6], Moments(networks)(networks))


def test_wrong_names_and_options_are_refused(zoo):
    networks = zoo.networks(torch.arange(5))
    with pytest.raises(MetaTrainError, match=r"there is no encoder `nope`.*\n.*moments"):
        encoder_of("nope", networks, 0)
    with pytest.raises(MetaTrainError, match="cannot build the encoder `moments:depth=3`"):
        encoder_of("moments:depth=3", networks, 0)


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_encoders_of_recurrent_networks_refuse_others(zoo, name):
    networks = zoo.networks(torch.arange(2))
    with pytest.raises(NgoptError, match="LSTM"):
        encoder_of(name, networks, 0)(networks)
