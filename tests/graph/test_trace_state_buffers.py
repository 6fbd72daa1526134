import pytest
import torch
from torch import nn

from ngopt.graph.trace import state_buffers, trace


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.BatchNorm1d(3), ("running_mean", "running_var")),
        (nn.BatchNorm3d(3), ("running_mean", "running_var")),
        (nn.SyncBatchNorm(3), ("running_mean", "running_var")),
        (nn.InstanceNorm2d(3, track_running_stats=True), ("running_mean", "running_var")),
        (nn.Linear(3, 2), ()),
        (nn.LayerNorm(3), ()),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), ()),
        (
            nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)).parametrizations.weight[0],
            ("_u", "_v"),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_which_buffers_follow_the_neurons(module, names):
    assert state_buffers(module) == names
    assert set(names) <= set(dict(module.named_buffers()))


def test_the_statistics_of_a_norm_move_with_its_neurons():
    model = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Linear(12, 4))
    graph = trace(model, torch.randn(3, 5), verify=True)
    (space,) = graph.hidden
    for name in ("1.running_mean", "1.running_var"):
        layout = graph.layouts[name]
        assert layout.buffer
        assert name not in graph.parameters
        assert layout.bundles[0].factors == (space.name,)
    assert "1.num_batches_tracked" not in graph.layouts


def test_the_vectors_of_spectral_norm_move_with_its_neurons():
    middle = nn.utils.parametrizations.spectral_norm(nn.Linear(12, 7))
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), middle, nn.ReLU(), nn.Linear(7, 4))
    graph = trace(model, torch.randn(3, 5), verify=True)
    assert sorted(space.size for space in graph.hidden) == [7, 12]
    weight = graph.layouts["2.parametrizations.weight.original"].bundles[0]
    for name, space in zip(("_u", "_v"), weight.factors, strict=True):
        layout = graph.layouts[f"2.parametrizations.weight.0.{name}"]
        assert layout.buffer
        assert layout.bundles[0].factors == (space,)


class Scaled(nn.Module):
    """Multiplies its neurons with a buffer."""

    def __init__(self, scale: torch.Tensor, *, persistent: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 4)
        self.register_buffer("scale", scale, persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)) * self.scale)


@pytest.mark.parametrize("persistent", [True, False])
def test_other_buffers_pin_what_they_meet(persistent):
    graph = trace(Scaled(torch.randn(12), persistent=persistent), torch.randn(3, 5))
    assert graph.hidden == ()
    assert "a constant of the model" in {space.reason for space in graph.spaces.values()}
    assert "scale" not in graph.layouts


def test_buffers_of_one_number_pin_nothing():
    graph = trace(Scaled(torch.tensor(0.5), persistent=True), torch.randn(3, 5))
    assert [space.size for space in graph.hidden] == [12]
