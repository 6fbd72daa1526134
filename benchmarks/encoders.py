"""What it costs to read networks: graphs per second of processor time, forward and backward.

    python -m benchmarks.encoders                      # all encoders, one thread
    python -m benchmarks.encoders --names ng_gnn ng_t --device cuda

The networks are SIRENs with 2 inputs, two layers of 32 neurons and 1 output, in batches.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn

from meta_train.table import table_lines
from ngopt import trace
from ngopt.encoders import ENCODERS, Encoder, Networks


class Sine(nn.Module):
    """The activation function of a SIREN."""

    def forward(self, x: Tensor) -> Tensor:
        """Map entries."""
        return torch.sin(30 * x)


def sirens(count: int, device: str) -> Networks:
    """Networks that nobody has trained."""
    model = nn.Sequential(nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1))
    graph = trace(model, torch.zeros(1, 2))
    generator = torch.Generator().manual_seed(0)
    shapes = {name: (count, *p.shape) for name, p in model.named_parameters()}
    drawn = {name: torch.randn(s, generator=generator) / 10 for name, s in shapes.items()}
    return Networks.stacked(graph, drawn, model).to(device)


def seconds(encoder: Encoder, networks: Networks, repeats: int) -> float:
    """Least time of a forward and backward pass: of the processor, or of the device."""
    cuda = next(iter(networks.stacks[0].parameters.values())).is_cuda
    clock = time.perf_counter if cuda else time.process_time
    times = []
    for _ in range(repeats + 1):  # the first pass warms up
        begin = clock()
        encoder(networks).square().mean().backward()
        if cuda:
            torch.cuda.synchronize()
        times.append(clock() - begin)
    return min(times[1:])


@dataclass(frozen=True)
class Options:
    """What is measured.

    Args:
        names: encoders, of `ngopt.encoders.ENCODERS`.
        batch: number of networks.
        repeats: number of passes, the fastest of which counts.
        device: where it runs.
    """

    names: Sequence[str] = tuple(ENCODERS)
    batch: int = 128
    repeats: int = 5
    device: str = "cpu"


def main(options: Options) -> None:
    """Measure, and print a table."""
    torch.set_num_threads(1)
    networks = sirens(options.batch, options.device)
    rows = []
    for name in options.names:
        encoder = ENCODERS[name](networks).to(options.device)
        took = seconds(encoder, networks, options.repeats)
        weights = sum(p.numel() for p in encoder.parameters())
        rows.append([name, f"{weights:,}", f"{options.batch / took:,.0f}"])
    print("\n".join(table_lines(["encoder", "weights", "graphs/s"], rows)))


if __name__ == "__main__":
    main(tyro.cli(Options))
