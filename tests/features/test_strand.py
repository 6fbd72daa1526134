import torch

from ngopt.features import blocks
from ngopt.features.strand import Strand
from tests.features.random_edges import SHAPE, random_strand


def collected(strand):
    """Edges and state of all blocks, put together."""
    arrays = {}
    for block, edges, state in strand:
        fields = edges._asdict()
        fields |= {f"mean {key}": value for key, value in fields.pop("moments")._asdict().items()}
        fields |= {f"new {key}": value for key, value in state.items() if value.dim()}
        for key, value in fields.items():
            arrays[key] = block.put(arrays.get(key), value, strand.gradient)
    return arrays


def test_blocks_are_parts_of_the_whole(monkeypatch):
    monkeypatch.setattr(blocks, "CPU_ENTRIES", 12)
    strand, edges, state = random_strand()
    assert len(strand.blocks) > 1
    found = collected(strand)
    for key in ("fast", "slow", "square"):
        assert torch.equal(found[f"new {key}"], state[key])
        assert torch.equal(found[f"mean {key}"], getattr(edges.moments, key))
    torch.testing.assert_close(found["adam"], edges.adam)
    torch.testing.assert_close(found["slow"], edges.slow)
    assert torch.equal(found["weight"], edges.weight)
    assert torch.equal(found["gradient"], edges.gradient)


def test_edges_are_kept_if_asked_for():
    for keep in (True, False):
        strand, _, _ = random_strand(keep=keep)
        (_, first, _), (_, second, _) = next(iter(strand)), next(iter(strand))
        assert torch.equal(first.adam, second.adam)
        assert (first.adam is second.adam) == keep


def test_all_is_computed_in_the_given_dtype():
    half = torch.randn(SHAPE).bfloat16()
    moments = {key: torch.zeros(SHAPE) for key in ("fast", "slow", "square")}
    strand = Strand(half, half, {"step": torch.zeros(()), **moments}, torch.float32, False)
    _, edges, state = next(iter(strand))
    tensors = [t for t in (*edges, *edges.moments) if isinstance(t, torch.Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert {key: value.dtype for key, value in state.items()} == dict.fromkeys(state, torch.float32)
