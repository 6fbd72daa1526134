"""What the tests of the monitor share: short runs, and what TensorBoard would show of them."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import backward
from tests.rules.rule_inputs import randomize


def read(folder):
    """What TensorBoard would show of the only run in a folder."""
    (run,) = folder.iterdir()
    return events_of(run)


def events_of(run):
    """What TensorBoard would show of a run."""
    events = EventAccumulator(str(run), {"images": 0, "histograms": 0, "tensors": 0})
    return events.Reload()


def series(folder, tag):
    """Values of a tag, by step."""
    return {event.step: event.value for event in read(folder).Scalars(tag)}


def text(folder, tag):
    """The only text under a tag."""
    (event,) = read(folder).Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def run(model, optimizer, steps, watcher=None, start=0):
    """Train for some steps, and return the losses."""
    losses = []
    for seed in range(start, start + steps):
        losses.append(backward(model, seed))
        optimizer.step()
        if watcher:
            watcher.log(loss=losses[-1])
    return losses


def ours(model, **options):
    """An optimizer whose rule decides something."""
    return NeuralGraphOptimizer(model, 1e-2, rule=randomize(MatrixGNN(width=4)), **options)
