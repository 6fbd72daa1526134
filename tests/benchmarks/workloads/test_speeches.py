import pytest

from benchmarks.workloads import speeches as module
from benchmarks.workloads.speeches import LONGEST, SHORTEST, speeches


def test_speeches_are_cut_into_pieces_of_the_most_frequent_speakers(monkeypatch):
    turns = [(f"SPEAKER {i % 11}", f"{i} says " + "many plain words, " * 12) for i in range(99)]
    turns += [("SPEAKER 0", "Short."), *turns[:8]]
    text = "\n\n".join(f"{speaker}:\n{words}" for speaker, words in turns)
    monkeypatch.setattr(module, "tiny_shakespeare", lambda folder: text)
    splits = speeches()
    pieces = splits["train"] + splits["held_out"]
    assert {speaker for _, speaker in pieces} == set(range(8))
    assert all(SHORTEST <= len(piece) <= LONGEST for piece, _ in pieces)
    assert len(splits["train"]) == pytest.approx(4 * len(splits["held_out"]), rel=0.1)
    assert {s: len(p) for s, p in speeches().items()} == {s: len(p) for s, p in splits.items()}
