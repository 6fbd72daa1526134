import copy
import gc
import io
import pickle
import weakref

import torch
from torch import nn

from ngopt.optim.deferred_tracing import Delivery, await_first_forward


class Listener:
    def __init__(self):
        self.heard = []

    def receive(self, graph, prefix):
        self.heard.append((graph, prefix))


def _model():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_the_graph_of_the_first_forward_pass_is_delivered_once():
    model, listener = _model(), Listener()
    await_first_forward(model, listener, "x:")
    assert listener.heard == []
    for _ in range(2):
        model(torch.ones(1, 2))
    [(graph, prefix)] = listener.heard
    assert prefix == "x:"
    assert [space.size for space in graph.hidden] == [3]


def test_a_waiting_model_does_not_keep_the_receiver_alive():
    model, listener = _model(), Listener()
    await_first_forward(model, listener, "")
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None
    model(torch.ones(1, 2))


def test_a_waiting_model_can_be_copied_and_stored_and_its_copy_delivers_nothing():
    model, listener = _model(), Listener()
    await_first_forward(model, listener, "")
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for each in (*copies, torch.load(file, weights_only=False)):
        torch.testing.assert_close(
            each(torch.ones(1, 2)), model[2](model[1](model[0](torch.ones(1, 2))))
        )
    assert listener.heard == []
    model(torch.ones(1, 2))
    assert len(listener.heard) == 1


def test_a_delivery_without_receiver_does_nothing():
    assert Delivery(None, "")(None) is None
