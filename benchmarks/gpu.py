"""All that is to be measured on a GPU, in a few minutes.

    bash benchmarks/gpu.sh runs/gpu                # about five minutes on an H100
    python -m benchmarks.gpu --device cpu --tiny   # a try without one

Each part writes a file and is left out where that is there: killed at any moment, the same command
goes on. The parts are the tests marked `gpu`; the GPU against the CPU, every rule, 20 steps; what a
step costs beside fused and foreach Adam and Muon; the same of steps that CUDA graphs replay; what
half precision saves where matrices are orthogonalized; the kernels of a step; and which tiles are
fast.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.contestant import Build
from benchmarks.models import GPT2, ResNet50, Transformer, ViT, images, loss, words
from benchmarks.step import CONTESTANTS, LR, Case
from ngopt import NeuralGraphOptimizer, list_rules, load_rule, rules, trace
from ngopt.backends import dispatch
from ngopt.backends.triton import kernel
from ngopt.rules.layers import polar
from ngopt.rules.refresh_schedule import FIRST

CASES = (
    Case("GPT-2 small, 8 x 512", GPT2, words(50257, 8, 512)),
    Case("ViT-B/16, 32", ViT, images(32, 3, 224, 224)),
    Case("ResNet-50, 64", ResNet50, images(64, 3, 224, 224)),
)
"""Models and batches that a user would take."""

TINY_CASES = (
    Case(
        "perceptron",
        lambda: nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4)),
        images(4, 9),
    ),
    Case("transformer", lambda: Transformer(16, 16, 1), words(16, 2, 8)),
)
TILES = tuple(
    kernel.Tile(*sides)
    for sides in ((8, 128, 4), (1, 1024, 4), (4, 256, 4), (16, 64, 4), (8, 256, 8), (2, 256, 2))
)
CAPTURABLE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam, fused": partial(torch.optim.Adam, fused=True),
    "Adam, foreach": partial(torch.optim.Adam, foreach=True),
    "ngopt": NeuralGraphOptimizer,
}
SHAPES = (
    (1, 64, 64),
    (16, 64, 64),
    (1, 256, 256),
    (1, 512, 512),
    (48, 768, 768),
    (24, 768, 3072),
    (1, 4096, 4096),
)
"""Of matrices that are orthogonalized: number, rows, columns."""
OPTIMIZERS = ("Adam, fused", "Adam, foreach", "Muon", "ngopt")


def tests(device: str, tiny: bool) -> Any:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    where = ["tests/optim/test_cuda_graphs.py"] if tiny else ["tests"]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "output": done.stdout[-20000:]}


def agreement(device: str, tiny: bool) -> Any:
    """How far weights are apart after 20 steps on the CPU and on the device, relative."""
    built = (
        "NFN",
        "DWS",
        "DeepSets",
        "StatNN",
        "AcrossLSTM",
        "FF",
        "Celo2",
        "Muon",
        "Adam",
        "SGDM",
    )
    makes: dict[str, Callable[[], Any]] = {n: getattr(rules, n) for n in built}
    makes |= {name: lambda name=name: load_rule(name) for name in list_rules()}
    found = {}
    for name in ("Celo2", "Adam") if tiny else makes:
        for dtype in (torch.float32, torch.float64):
            mine, theirs = (trained(makes[name](), where, dtype) for where in ("cpu", device))
            found[f"{name}, {dtype}"] = float((mine - theirs).norm() / mine.norm())
    return found


def trained(rule: Any, device: str, dtype: torch.dtype) -> Tensor:
    """Weights of a small net after 20 steps."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Flatten(),
        nn.Linear(72, 16),
        nn.LayerNorm(16),
        nn.Tanh(),
        nn.Linear(16, 5),
    )
    inputs, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 5, (32,))
    net, inputs, labels = net.to(device, dtype), inputs.to(device, dtype), labels.to(device)
    optimizer = NeuralGraphOptimizer(net, 1e-3, rule=rule.to(device))
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    return torch.cat([weight.detach().cpu().double().flatten() for weight in net.parameters()])


def steps(device: str, tiny: bool) -> Any:
    """Milliseconds of passes under bfloat16 autocast and of steps, and memory at the peak."""
    found: dict[str, Any] = {}
    for case in TINY_CASES if tiny else CASES:
        for which in OPTIMIZERS:
            name = f"{case.name}: {which}"
            try:
                found[name] = _timed(case, CONTESTANTS[which], device)
            except (ImportError, RuntimeError) as error:
                found[name] = repr(error)[:500]
            print(name, found[name], flush=True)
    return found


def _timed(case: Case, build: Build, device: str) -> Any:
    torch.manual_seed(0)
    model, batch = case.build().to(device), case.batch().to(device)
    optimizers = build(model)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    passes, taken = [], []
    # The first steps refresh the graph context; afterwards every eighth does.
    for _ in range(FIRST + 16):
        with _clock(device, passes):
            with torch.autocast(device, torch.bfloat16):
                outputs = model(batch)
            model.zero_grad()
            loss(outputs.float()).backward()
        with _clock(device, taken):
            for optimizer in optimizers:
                optimizer.step()
    found = {
        "passes": statistics.median(passes),
        "step": statistics.mean(taken[FIRST:]),
        "median step": statistics.median(taken[FIRST:]),
        "first step": taken[0],
    }
    if device == "cuda":
        found["GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def captured(device: str, tiny: bool) -> Any:
    """Milliseconds of a step with `capturable=True` outside a CUDA graph and replayed by one.

    Each replay of ngopt refreshes the graph context. On the CPU, a replay is a step.
    """
    found: dict[str, Any] = {}
    for case in TINY_CASES if tiny else CASES:
        model, batch = case.build().to(device), case.batch().to(device)
        graph = trace(model, batch)
        loss(model(batch)).backward()
        parameters = list(model.named_parameters())
        for name, make in CAPTURABLE.items():
            rate = torch.tensor(LR, device=device) if device == "cuda" else LR
            options = {"graph": graph} if make is NeuralGraphOptimizer else {}
            optimizer = make(parameters, lr=rate, capturable=device == "cuda", **options)
            outside: list[float] = []
            for _ in range(FIRST + 8):
                with _clock(device, outside):
                    optimizer.step()
            replay, replayed = _replay(optimizer, device), []
            for _ in range(16):
                with _clock(device, replayed):
                    replay()
            times = statistics.median(outside[FIRST:]), statistics.median(replayed)
            found[f"{case.name}: {name}"] = dict(zip(("outside", "replayed"), times, strict=True))
            print(case.name, name, times, flush=True)
    return found


def _replay(optimizer: torch.optim.Optimizer, device: str) -> Callable[[], Any]:
    if device != "cuda":
        return optimizer.step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    return graph.replay


def orthogonalization(device: str, tiny: bool) -> Any:
    """Milliseconds to orthogonalize matrices, in half and in single precision, by their shape."""
    found = {}
    for shape in ((4, 8, 8),) if tiny else SHAPES:
        given = torch.randn(shape, device=device) / (shape[1] * shape[2]) ** 0.5
        found[str(shape)] = {}
        for name, worth in (("half", 0), ("single", float("inf"))):
            times: list[float] = []
            with torch.no_grad(), patch.object(polar, "WORTH", worth):
                for _ in range(12):
                    with _clock(device, times):
                        polar.rough_polar_factor(given)
            found[str(shape)][name] = statistics.median(times)
        print(shape, found[str(shape)], flush=True)
    return found


@contextmanager
def _clock(device: str, into: list[float]) -> Iterator[None]:
    if device == "cuda":
        torch.cuda.synchronize()
    since = time.perf_counter()
    yield
    if device == "cuda":
        torch.cuda.synchronize()
    into.append(1e3 * (time.perf_counter() - since))


def kernels(device: str, tiny: bool) -> Any:
    """What takes the time of ngopt's steps, eight of them."""
    from torch.profiler import ProfilerActivity, profile

    case = (TINY_CASES if tiny else CASES)[0]
    model, batch = case.build().to(device), case.batch().to(device)
    optimizer = NeuralGraphOptimizer(model, LR)
    loss(model(batch)).backward()
    for _ in range(FIRST):
        optimizer.step()
    cuda = device == "cuda"
    kind = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[kind]) as seen:
        for _ in range(8):
            optimizer.step()
        if cuda:
            torch.cuda.synchronize()
    by = "cuda_time_total" if cuda else "cpu_time_total"
    return seen.key_averages().table(sort_by=by, row_limit=40, max_name_column_width=100)


def tiles(device: str, tiny: bool) -> Any:
    """Milliseconds of a step by the tiles of kernels of Triton, and of one by operations of torch.

    Mean and median over 16 steps, of which two refresh the graph context.
    """
    case = TINY_CASES[0] if tiny else CASES[0]
    model, batch = case.build().to(device), case.batch().to(device)
    graph = trace(model, batch)
    loss(model(batch)).backward()
    found = {}
    for tile in (None, *TILES[: 2 if tiny else None]):
        optimizer = NeuralGraphOptimizer(model, LR, graph=graph)
        times: list[float] = []
        where = nullcontext() if tile else dispatch.without_loops()
        with where, patch.object(kernel, "TILE", tile or kernel.TILE):
            for _ in range(FIRST + 16):
                with _clock(device, times):
                    optimizer.step()
        last = times[FIRST:]
        found[str(tile)] = {"mean": statistics.mean(last), "median": statistics.median(last)}
        print(tile, found[str(tile)], flush=True)
    return found


PARTS = {
    "agreement": agreement,
    "steps": steps,
    "captured": captured,
    "orthogonalization": orthogonalization,
    "kernels": kernels,
    "tiles": tiles,
    "tests": tests,
}


def main() -> None:
    """Measure what has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a try, on small models")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    for part in options.parts:
        path = options.out / f"{part}.json"
        if path.exists():
            continue
        since = time.perf_counter()
        found = PARTS[part](options.device, options.tiny)
        about = {"card": card, "torch": torch.__version__, "seconds": time.perf_counter() - since}
        path.write_text(json.dumps({**about, "found": found}, indent=1) + "\n")
        print(f"{part}: {found}" if isinstance(found, dict) else f"{part}:\n{found}", flush=True)


if __name__ == "__main__":
    main()
